"""Sets of neighbouring stages that hold the true one as often as asked for.

A set starts with the most probable stage and grows towards whichever neighbour is more probable: Lu, Angelopoulos and
Pomerantz, *Improving trustworthiness of AI disease severity rating in medical imaging with ordinal conformal
prediction sets*, MICCAI 2022. Stages are an order, and "mild or severe" is no answer. How far it grows is found by
split conformal prediction (Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005): if calibrators
and new patients are exchangeable, a set holds the true stage with at least the probability asked for, over all
patients. It promises nothing for one stage or one group.

Nothing is drawn at random: the same probabilities give the same set.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

EVERYTHING = 1.0
"""Threshold at which every stage is in the set: nothing can have more probability before it."""


def mass_before(probabilities: ArrayLike) -> NDArray[np.float64]:
    """How much probability a set has gathered before it takes in each stage.

    From probabilities (patients, stages) to (patients, stages), 0 to 1: 0 for the most probable stage (the milder of
    two alike), then rising to both sides. Of two neighbours alike in probability the milder is taken in first. The
    stages whose value is at most some threshold are neighbours, whatever the threshold.
    """
    given = np.atleast_2d(np.asarray(probabilities, dtype=float))
    before = np.zeros_like(given)
    patients, stages = np.arange(len(given)), given.shape[1]
    low = high = given.argmax(axis=1)
    gathered = given[patients, low]
    for _ in range(stages - 1):
        milder = np.where(low > 0, given[patients, low - 1], -np.inf)
        worse = np.where(high < stages - 1, given[patients, np.minimum(high + 1, stages - 1)], -np.inf)
        down = milder >= worse
        taken = np.where(down, low - 1, high + 1)
        before[patients, taken] = np.minimum(gathered, EVERYTHING)  # a sum may exceed one by rounding
        gathered = gathered + given[patients, taken]
        low, high = np.where(down, low - 1, low), np.where(down, high, high + 1)
    return before


def threshold(probabilities: ArrayLike, truth: ArrayLike, coverage: float) -> float:
    """What mass a set may have gathered and still take in the next stage, so that sets cover as asked.

    Parameters
    ----------
    probabilities : (patients, stages) of calibrators, whom the stager was not trained on.
    truth : (patients,) their stages' indices.
    coverage : share of patients whose set shall hold the true stage, above 0 and below 1.

    Returns
    -------
    The ceil((n + 1) coverage)-th smallest of the n calibrators' masses before their true stage; `EVERYTHING` where n
    is too small for that, as then only the set of all stages is sure to cover.

    Raises
    ------
    ValueError
        If the coverage is no share.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage lies between 0 and 1, not {coverage}")
    stages = np.asarray(truth, dtype=np.int64)
    rank = rank_needed(len(stages), coverage)
    if rank > len(stages):
        return EVERYTHING
    scores = mass_before(probabilities)[np.arange(len(stages)), stages]
    return float(np.sort(scores)[rank - 1])


def rank_needed(calibrators: int, coverage: float) -> int:
    """The rank of the quantile; above `calibrators` if these are too few for the coverage."""
    # 0.9 * (9 + 1) is 9 and not what rounding makes of it.
    return math.ceil((calibrators + 1) * coverage - 1e-9)


def in_set(probabilities: ArrayLike, at: float) -> NDArray[np.bool_]:
    """Which stages (patients, stages) are in the sets of a threshold."""
    return mass_before(probabilities) <= at
