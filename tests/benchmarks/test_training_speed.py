"""Milliseconds of host work a slice while a training feeds its device, by part, before and after augmentation moved to
the device: `pytest -m benchmark -s tests/benchmarks/test_training_speed.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_patients import toy_cohort

from cirrnb.data.augmentation import Changes
from cirrnb.data.bag import Bag
from cirrnb.data.dataset import BagDataset, DrawnBag, SliceDataset, draw_for_training
from cirrnb.data.prepared import PreparationSettings
from cirrnb.model.batch import Batch, collate
from cirrnb.model.settings import TrainingSettings

DEMO = PreparationSettings(view="liver", spacing=2.0)
WHOLE = PreparationSettings(view="slice")
PATIENTS = 16


def milliseconds(work: Callable[[], object], slices: int, repeats: int = 5) -> float:
    """Least time of several, a slice."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return 1000 * min(taken) / slices


def before(bag: Bag, settings: TrainingSettings) -> DrawnBag:
    """As it was: pixels widened and augmented scan by scan on the host."""
    drawn = draw_for_training(bag, settings.slices, settings.augmentation, 0, 0)
    slices, changes = drawn.slices.float(), drawn.changes
    assert changes is not None
    parts = []
    for number in drawn.sequence.unique():
        own = drawn.sequence == number
        parts.append(Changes(changes.values[own], changes.seeds[own], changes.bounds).apply(slices[own]))
    return DrawnBag(torch.cat(parts), drawn.sequence, drawn.position, drawn.person, drawn.stage)


@pytest.mark.benchmark
@pytest.mark.parametrize("preset", ["demo", "reference"])
def test_host_work_a_slice(preset: str, tmp_path: Path) -> None:
    settings = TrainingSettings.preset(preset, pretrained=False)
    looks = DEMO if preset == "demo" else WHOLE
    bags = toy_cohort(tmp_path, {"train": PATIENTS}, slices=(24, 12), settings=looks).bags()
    torch.set_num_threads(1)
    if preset == "demo":
        dataset: BagDataset | SliceDataset = BagDataset(bags, settings.slices, settings.augmentation)
        items = list(range(4))
    else:
        dataset = SliceDataset(bags, settings.augmentation)
        items = np.random.default_rng(0).permutation(len(dataset))[:32].tolist()
    drawn = [dataset[0, item] for item in items]
    batch: Batch = collate(drawn)
    count = len(batch.sequence)
    assert batch.changes is not None
    loader = milliseconds(lambda: [dataset[0, item] for item in items], count)
    joined = milliseconds(lambda: collate(drawn), count)
    augmentation = milliseconds(lambda: batch.changes.apply(batch.slices), count)  # type: ignore[union-attr]
    widening = milliseconds(lambda: batch.slices.float(), count)
    if preset == "demo":
        old = milliseconds(lambda: collate([before(bag, settings) for bag in bags[:4]]), count)
    else:
        old = milliseconds(
            lambda: collate([DrawnBag(one.changed(), one.sequence, one.position, one.person, one.stage) for one in
                             [dataset[0, item] for item in items]]), count,
        )  # fmt: skip
    new = loader + joined
    print(f"\n{preset}: {count} slices of {looks.size[0]} x {looks.size[1]} pixels, one thread, ms a slice")
    print(f"  before: {old:.3f} (read, draw, augment, collate on the host)")
    print(f"  after:  {new:.3f} (read and draw {loader:.3f} in workers, collate {joined:.3f})")
    print(f"  moved to the device: augmentation {augmentation:.3f}, widening {widening:.3f} (their time on this CPU)")
    print(f"  ratio {old / new:.1f}")
    assert new < old / 2
