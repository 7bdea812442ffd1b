"""Training the segmenter: resumes as if nothing had happened, uses real masks, and says what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputError
from cirrnb.segmentation.network import NetworkSettings
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.segmentation.slabs import NOT_LIVER, SOME_LIVER, Mixture, Slabs, loss_of
from cirrnb.segmentation.training import TrainingSettings, build_anatomies, train_segmenter
from cirrnb.simulation.anatomy import build_anatomy, save_anatomy
from cirrnb.simulation.cohort import simulate_cohort
from cirrnb.simulation.tissue_shares import LIVER
from cirrnb.simulation.wide import draw_wide_body

SETTINGS = TrainingSettings(
    steps=4, anatomies=2, mixture=Mixture(seed=3, slices=8), network=NetworkSettings(widths=(4, 8))
)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two coarse bodies in the place of those that a training builds."""
    folder = tmp_path_factory.mktemp("bodies")
    for seed in range(2):
        body = draw_wide_body(seed)
        made = build_anatomy(body, (-150.0, -110.0, -60.0), (150.0, 110.0, 70.0), spacing=(10.0, 6.0, 6.0))
        save_anatomy(folder / f"{seed:05d}.anatomy", made)
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "cohort"
    simulate_cohort(out, patients=6, seed=2, scale="tiny", healthy=1, workers=1, progress=False)
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "segmenter.safetensors")


class Killed(Exception):
    pass


def killing_at(last: int):
    def progress(items, total, what):
        for number, item in enumerate(items):
            if what == "training" and number == last:
                raise Killed
            yield item

    return progress


def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path: Path, bodies: Path) -> None:
    whole = train_segmenter(tmp_path / "whole", SETTINGS, anatomies=bodies)
    broken = tmp_path / "broken"
    for last in (2, 1):
        with pytest.raises(Killed):
            train_segmenter(broken, SETTINGS, anatomies=bodies, minutes=0, progress=killing_at(last))
        assert not (broken / "segmenter.safetensors").exists()
    train_segmenter(broken, SETTINGS, anatomies=bodies)
    first, second = weights(whole), weights(broken)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert Segmenter.load(broken).config.trained["anatomies"] == 2


def test_other_settings_are_refused_in_a_begun_folder(tmp_path: Path, bodies: Path) -> None:
    train_segmenter(tmp_path, SETTINGS, anatomies=bodies)
    with pytest.raises(InputError) as caught:
        train_segmenter(tmp_path, TrainingSettings(steps=5, anatomies=2), anatomies=bodies)
    assert caught.value.where == str(tmp_path) and "steps" in caught.value.found


def test_a_damaged_state_is_refused(tmp_path: Path, bodies: Path) -> None:
    with pytest.raises(Killed):
        train_segmenter(tmp_path, SETTINGS, anatomies=bodies, minutes=0, progress=killing_at(2))
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError) as caught:
        train_segmenter(tmp_path, SETTINGS, anatomies=bodies)
    assert caught.value.where == str(state)


def test_real_scans_with_masks_are_trained_on(tmp_path: Path, bodies: Path, cohort: Path) -> None:
    start = train_segmenter(tmp_path / "first", SETTINGS, anatomies=bodies)
    tuned = train_segmenter(tmp_path / "tuned", SETTINGS, anatomies=bodies, cohort=cohort, start=start)
    told = json.loads((tuned / "config.json").read_text())["trained"]
    splits = {scan.name: scan.split for scan in read_cohort(cohort).scans}
    assert told["scans"] and {splits[name] for name in told["scans"]} == {"train"}
    assert any(not torch.equal(a, b) for a, b in zip(weights(start).values(), weights(tuned).values(), strict=True))


def test_a_cohort_without_masks_is_refused(tmp_path: Path, bodies: Path, cohort: Path) -> None:
    scan = read_cohort(cohort).scans[0]
    table = tmp_path / "scans.csv"
    table.write_text(f"patient,sequence,image\nA,{scan.sequence},{scan.image}\n")
    with pytest.raises(InputError):
        train_segmenter(tmp_path / "out", SETTINGS, anatomies=bodies, cohort=table)


def test_slabs_of_real_scans_have_their_liver(bodies: Path, cohort: Path) -> None:
    scans = [scan for scan in read_cohort(cohort).scans if scan.mask]
    files = sorted(bodies.glob("*.anatomy"))
    livers = 0
    for inputs, labels in Slabs(files, scans, Mixture(slices=8, real=1.0), 0, 6):
        assert torch.isfinite(inputs).all() and inputs.shape[2:3] == (2,)
        assert set(labels.unique().tolist()) <= {NOT_LIVER, SOME_LIVER}
        livers += int((labels == SOME_LIVER).sum())
    assert livers > 100


def test_the_loss_by_hand() -> None:
    # One pixel of each kind; the network is sure of the truth, then sure of another organ.
    label = torch.tensor([[[[1, 2, 12, 0]]]])
    sure = 50 * torch.nn.functional.one_hot(label, 13).movedim(-1, 2).float()
    assert float(loss_of(sure.repeat(1, 1, 1, 30, 1), label.repeat(1, 1, 30, 1))) == pytest.approx(0, abs=1e-3)
    wrong = sure.roll(1, dims=2).repeat(1, 1, 1, 30, 1)
    assert float(loss_of(wrong, label.repeat(1, 1, 30, 1))) > 20


def test_of_real_scans_the_lobes_count_together() -> None:
    label = torch.full((1, 1, 10, 10), NOT_LIVER)
    label[..., :5] = SOME_LIVER
    losses = []
    for lobe in (*LIVER, 4):
        logits = torch.zeros(1, 1, 13, 10, 10)
        logits[:, :, lobe, :, :5] = 40
        logits[:, :, 12, :, 5:] = 40
        losses.append(float(loss_of(logits, label)))
    assert np.allclose(losses[:3], 0, atol=1e-3) and losses[3] > 1


def test_anatomies_are_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(2):
        (tmp_path / f"{seed:05d}.anatomy").write_bytes(b"there")
    assert len(build_anatomies(tmp_path, 2)) == 2
    assert (tmp_path / "00001.anatomy").read_bytes() == b"there"
