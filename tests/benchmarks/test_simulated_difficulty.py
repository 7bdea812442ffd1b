"""How hard the simulated cohort is: ceiling, floor, and the reference paper's slice protocol in between.

The simulator is tuned on realism and on these ranges, never on the score of our own stager. They are measured on the
development cohort, `cirrnb simulate OUT --patients 240 --seed 7`; name one that is there already in
CIRRNB_DEVELOPMENT_COHORT, it is simulated otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cirrnb
from cirrnb.data import splits
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.dataset import Augmentation, BagDataset, draw
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.backbones import MEAN, STANDARD_DEVIATION, build_backbone
from cirrnb.model.batch import collate
from cirrnb.model.schedule import one_cycle, steps_of_epoch
from cirrnb.simulation.ceiling import ceiling_table
from cirrnb.simulation.cohort import SIMULATOR_VERSION

pytestmark = pytest.mark.benchmark

BACKBONE, EPOCHS, SLICES = "resnet18", 12, 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("CIRRNB_DEVELOPMENT_COHORT")
    folder = Path(named) if named else tmp_path_factory.mktemp("difficulty") / "cohort"
    cirrnb.simulate_cohort(folder, patients=240, seed=7)
    print(f"\nsimulator {SIMULATOR_VERSION}")
    return folder


def test_the_ceiling_is_as_high_as_meant_and_no_two_signs_reach_it() -> None:
    table = ceiling_table(100_000).set_index("signs")
    print(f"\nsimulator {SIMULATOR_VERSION}\n{table.round(4).to_string()}")
    assert 0.80 <= table.loc["all", "accuracy"] <= 0.90
    assert table.loc[table.index.str.startswith("pair"), "loss"].min() >= 0.05
    assert (table.loc[table.index.str.startswith("without"), "loss"] > 0).all()


def test_age_sex_and_liver_volume_tell_little(root: Path) -> None:
    latent = pd.read_csv(root / "latent.csv").query("source == 'cirrhotic'")
    features = latent[["age", "liver_volume_ml"]].assign(female=latent["sex"] == "female").astype(float)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=20, random_state=0)
    accuracy = cross_val_score(model, features, latent["stage"], cv=folds).mean()
    majority = latent["stage"].value_counts(normalize=True).max()
    volumes = latent.groupby("stage")["liver_volume_ml"].median().reindex(list(CIRRHOSIS)).round().to_dict()
    print(f"\nfloor: accuracy {accuracy:.3f}, majority {majority:.3f}, liver volume medians {volumes}")
    assert accuracy < 0.50


@pytest.mark.parametrize("sequence", ["T1W", "T2W"])
def test_the_reference_slice_protocol_lands_where_it_did_on_real_patients(
    root: Path, tmp_path: Path, sequence: str
) -> None:
    """A classifier of single slices of one sequence, scored by slice (Zeng et al., arXiv 2502.18225), from random
    weights since pretrained ones cannot be taken for granted."""
    cohort = splits.random(cirrnb.read_cohort(root).select(sequence=sequence), (0.7, 0.0, 0.3), seed=0)
    prepared = cirrnb.prepare(cohort, tmp_path, PreparationSettings(view="liver", spacing=2.0))
    model = _train(prepared)
    truth, said, owner, patients = _score(model, prepared.bags(split="test"))
    right = truth == said
    generator = np.random.default_rng(0)
    by_patient = [np.flatnonzero(owner == patient) for patient in range(len(patients))]
    draws = [
        right[np.concatenate([by_patient[i] for i in generator.integers(len(by_patient), size=len(by_patient))])].mean()
        for _ in range(1000)
    ]
    low, high = np.percentile(draws, (2.5, 97.5))
    majority = np.mean(truth == np.bincount(truth).argmax())
    print(
        f"\nreference protocol, {BACKBONE}, {EPOCHS} epochs, {sequence}: slice accuracy {right.mean():.3f} "
        f"({low:.3f} to {high:.3f}, bootstrap over {len(patients)} patients), majority {majority:.3f}; "
        f"patient accuracy by mean probability {np.mean(patients):.3f}"
    )
    assert 0.60 <= right.mean() <= 0.78


def _train(prepared: PreparedCohort) -> torch.nn.Module:
    torch.manual_seed(0)
    backbone, features, _ = build_backbone(BACKBONE, pretrained=False)
    model = torch.nn.Sequential(backbone, torch.nn.Linear(features, len(CIRRHOSIS))).to(
        memory_format=torch.channels_last
    )
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    dataset = BagDataset(prepared.bags(split="train"), SLICES, Augmentation(), seed=0)
    for epoch in range(EPOCHS):
        dataset.set_epoch(epoch)
        steps = steps_of_epoch(len(dataset), 8, 0, epoch)
        for number, step in enumerate(steps):
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(epoch * len(steps) + number, EPOCHS * len(steps), 1e-3)
            batch = collate([dataset[index] for index in step])
            loss = torch.nn.functional.cross_entropy(model(_shifted(batch.slices)), batch.stage[batch.patient])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.inference_mode()
def _score(model: torch.nn.Module, bags: list[Bag]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bool]]:
    """True and predicted stage and patient of every slice, and whether each patient is right by mean probability."""
    truth, said, owner, patients = [], [], [], []
    for number, bag in enumerate(bags):
        drawn = draw(bag)
        chances = model(_shifted(drawn.slices)).softmax(dim=1)
        said += chances.argmax(dim=1).tolist()
        truth += [drawn.stage] * len(chances)
        owner += [number] * len(chances)
        patients.append(int(chances.mean(dim=0).argmax()) == drawn.stage)
    return np.array(truth), np.array(said), np.array(owner), patients


def _shifted(slices: torch.Tensor) -> torch.Tensor:
    return ((slices - MEAN) / STANDARD_DEVIATION).contiguous(memory_format=torch.channels_last)
