"""Learning rates and the division of an epoch into steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cirrnb.model.schedule import one_cycle, plateau, steps_of_epoch


def test_a_plateau_lowers_the_rate_as_torch_does():
    random = np.random.default_rng(3)
    losses = np.concatenate([np.linspace(2, 1, 6), random.uniform(1, 2, 20), [0.5], random.uniform(0.5, 1, 14)])
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=5)
    for count, loss in enumerate(losses, start=1):
        scheduler.step(loss)
        assert plateau(losses[:count].tolist(), 0.1) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert plateau([float("nan")] * 40, 0.1) == 0.1, "without validation patients nothing is known to stand still"


def test_one_cycle_is_torchs():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=50, cycle_momentum=False)
    for step in range(50):
        assert one_cycle(step, 50, 2e-3) == pytest.approx(schedule.get_last_lr()[0], rel=1e-6, abs=1e-12)
        optimizer.step()
        schedule.step()


@given(steps=st.integers(1, 200))
def test_the_learning_rate_of_any_length_is_positive_and_never_above_the_peak(steps):
    rates = [one_cycle(step, steps, 1e-3) for step in range(steps)]
    assert min(rates) > 0 and max(rates) <= 1e-3 * (1 + 1e-12)


@given(patients=st.integers(1, 300), per_step=st.integers(1, 32), epoch=st.integers(0, 5))
def test_steps_take_every_patient_once_and_are_even(patients, per_step, epoch):
    steps = steps_of_epoch(patients, per_step, 0, epoch)
    assert sorted(patient for step in steps for patient in step) == list(range(patients))
    sizes = [len(step) for step in steps]
    assert max(sizes) <= per_step and max(sizes) - min(sizes) <= 1
    if patients > 20:
        assert steps != steps_of_epoch(patients, per_step, 0, epoch + 1)
