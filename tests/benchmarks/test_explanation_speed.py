"""What explaining a patient costs beside plain passes through the stager, in time and memory; ratios within one run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_stager_speed import built, patients, seconds

from cirrnb.explanation import shapley
from cirrnb.explanation.methods import Request, method_named
from cirrnb.explanation.score import PatientScore

pytestmark = pytest.mark.benchmark


def forward_and_backward(score: PatientScore) -> None:
    slices = score.slices.clone().requires_grad_()
    torch.autograd.grad(score(slices).sum(), slices)


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet18"])
def test_integrated_gradients_cost_their_steps(backbone: str) -> None:
    score = PatientScore([built(backbone)[0]], patients(1, 16, size=112))
    how, steps = method_named("integrated_gradients"), 8
    request = Request(score, torch.zeros_like(score.slices), {"steps": steps})
    whole, one = seconds(lambda: how.run(request), lambda: forward_and_backward(score), rounds=3)
    ratio = whole / one / steps
    print(f"\n{backbone}: {steps} steps {whole:.2f} s, as many plain passes {steps * one:.2f} s, {ratio:.2f}")
    assert ratio < 1.15


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet18"])
def test_grad_cam_costs_about_a_forward_pass(backbone: str) -> None:
    score = PatientScore([built(backbone)[0]], patients(1, 16, size=112), chunk=None)
    how = method_named("grad_cam")

    def forward() -> None:
        with torch.no_grad():
            score._embedded = None  # nothing is remembered
            score(score.slices)

    deepest, every, once, both = seconds(
        lambda: how.run(Request(score, None, {"scale": 4})),
        lambda: how.run(Request(score, None, {"scale": "all"})),
        forward,
        lambda: forward_and_backward(score),
        rounds=3,
    )
    print(f"\n{backbone}: deepest scale {deepest / once:.2f} forward passes, all {every / both:.2f} of both ways")
    assert deepest / once < 1.5 and every < both + once / 2


def test_shares_in_small_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attention between sequences compares all slices of a pass with each other, of whatever subset."""
    score = PatientScore([built("test_resnet")[0]], patients(1, 64, size=112))
    score.embeddings()

    def at_once(slices: int) -> None:
        monkeypatch.setattr(shapley, "AT_ONCE", slices)
        shapley.shapley_values(score, 0.0, permutations=8)

    usual = shapley.AT_ONCE
    small, usually, large = seconds(lambda: at_once(64), lambda: at_once(usual), lambda: at_once(1024), rounds=3)
    print(
        f"\n{usual} slices a pass {usually:.2f} s; 64: {small / usually:.2f} times, 1024: {large / usually:.2f} times"
    )
    assert usually < large


PEAK = """
import sys
sys.path.insert(0, {tests!r})
import torch
from test_stager_speed import built, patients
from cirrnb.explanation import shapley
from cirrnb.explanation.methods import Request, method_named
from cirrnb.explanation.score import PatientScore
score = PatientScore([built("test_resnet")[0]], patients(1, {slices}, size=112))
how = method_named({method!r})
settings = dict(how.settings) | {settings!r}
def told(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
open("/proc/self/clear_refs", "w").write("5")
before = told("VmRSS")
how.run(Request(score, torch.zeros_like(score.slices) if how.compares else None, settings))
print(told("VmHWM") - before, score.slices.nbytes // 1024)
"""


@pytest.mark.parametrize(
    ("method", "settings"),
    [("integrated_gradients", {"steps": 2}), ("grad_cam", {}), ("smooth_saliency", {"samples": 2})],
)
def test_memory_hardly_grows_with_the_slices(method: str, settings: dict[str, int]) -> None:
    found = []
    for slices in (16, 200):
        code = PEAK.format(tests=str(Path(__file__).parent), slices=slices, method=method, settings=settings)
        exact = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **exact}
        )
        rise, given = map(int, done.stdout.split())
        found.append((rise / 1024, given / 1024))
    (few, few_given), (many, many_given) = found
    print(f"\n{method}: {few:.0f} MB for 2 x 16 slices, {many:.0f} MB for 2 x 200, of which slices {many_given:.0f} MB")
    # Copies of the slices themselves (their gradient, a step, the sum) grow with them and with nothing else.
    assert many - few < 8 * (many_given - few_given)
