"""Tables of predictions for tests, as a stager of known quality would give them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import softmax

from cirrnb.data.stage_scale import CIRRHOSIS


def drawn(patients: int, seed: int = 0, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores (patients, 3) and true stages (patients,) of a stager that is `temperature` times too sure.

    The truth is drawn from the probabilities, so that the scores divided by `temperature` are exactly right.
    """
    generator = np.random.default_rng(seed)
    severity = generator.normal(size=(patients, 1)) * 2
    right = -((severity - np.array([-1.5, 0.0, 1.5])) ** 2)
    chosen = (generator.random((patients, 1)) > np.cumsum(softmax(right, axis=1), axis=1)).sum(axis=1)
    return right * temperature, chosen.clip(0, 2)


def table(logits: np.ndarray, truth: np.ndarray, split: str = "test", start: int = 0) -> pd.DataFrame:
    """What `cirrnb.predict` would tell about these patients."""
    probabilities = softmax(logits, axis=1)
    names = np.array(CIRRHOSIS, dtype=object)
    told = pd.DataFrame(probabilities, columns=list(CIRRHOSIS))
    subjects = [f"cirrhotic/{start + i}" for i in range(len(truth))]
    told.insert(0, "subject", subjects)
    return told.assign(
        split=split, stage=names[truth], predicted=names[probabilities.argmax(axis=1)], sequences="T1W+T2W"
    )
