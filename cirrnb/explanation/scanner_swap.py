"""The same simulated patient on either scanner: what a model's score owes to the scanner and not to the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from cirrnb.data.bag import Bag
from cirrnb.explanation.explain import score_of_patient
from cirrnb.explanation.truth import as_slices
from cirrnb.explanation.twins import SimulatedTruth
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.surroundings import own_context
from cirrnb.model.trained import TrainedModel
from cirrnb.simulation.scans import SCANNERS

COLUMNS = ("model", "subject", "stage", *SCANNERS)


@own_context()
@torch.no_grad()
def scanner_swap(
    models: Mapping[str, TrainedModel | TrainedStager | Path | str], bags: Sequence[Bag], truth: SimulatedTruth
) -> pd.DataFrame:
    """Score for severity (log-odds) of each patient on each scanner; nothing else of the scan differs.

    Returns one row for each model and patient: model, subject, stage, A, B.
    """
    rows = []
    for bag in bags:
        images = {name: as_slices(truth.on_scanner(bag, name)) for name in SCANNERS}
        for name, model in models.items():
            score = score_of_patient(model, bag)
            told = {scanner: float(score(one)[0]) for scanner, one in images.items()}
            rows.append({"model": name, "subject": bag.subject, "stage": bag.stage, **told})
    return pd.DataFrame(rows, columns=list(COLUMNS))
