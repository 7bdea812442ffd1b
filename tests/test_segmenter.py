"""The segmenter: any grid and orientation, volumes of every kind, a folder that is judged before it is used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.nifti.reading import read_volume
from cirrnb.segmentation.inputs import channels
from cirrnb.segmentation.network import NetworkSettings, OrganNetwork, fused
from cirrnb.segmentation.segmenter import ASCITES, BODY, EXPECTED_ASCITES, Segmenter, clean
from cirrnb.segmentation.weights import LARGEST, SegmenterConfig, load_network, save_network, shipped_folder
from cirrnb.segmentation.working_grid import WorkingGrid
from cirrnb.simulation.cohort import simulate_cohort
from cirrnb.simulation.tissue_shares import LIVER, ORGANS

LPS = (-1.0, -1.0, 1.0)
SMALL = NetworkSettings(widths=(4, 8, 8))


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    return Grid(shape, np.diag([s * d for s, d in zip(spacing, LPS, strict=True)] + [1.0]))


@pytest.fixture(scope="module")
def shipped() -> Segmenter:
    return Segmenter.load()


@pytest.fixture(scope="module")
def small() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(OrganNetwork(SMALL), SegmenterConfig(SMALL, "test"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("organs") / "cohort"
    simulate_cohort(out, patients=2, seed=31, organs=True, workers=1, progress=False)
    return out


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b)))


def test_livers_of_simulated_patients_are_found(shipped: Segmenter, cohort: Path) -> None:
    for scan in read_cohort(cohort).scans:
        volume, own = read_volume(scan.image)
        truth, _ = read_volume(cohort / "organs" / scan.source / scan.sequence / scan.image.name)
        found = shipped.segment(volume, own)
        assert dice(found.liver, np.isin(truth, LIVER)) > 0.85, scan.name
        assert dice(found.labels > 0, truth > 0) > 0.95
        assert found.probability is not None and 0.5 < found.probability <= 1
        assert found.volumes["liver"] == pytest.approx(found.liver.sum() * own.voxel_volume / 1000)
        assert found.drawn_by.startswith("cirrnb segmenter ")


def test_orientation_of_the_file_does_not_matter(shipped: Segmenter, cohort: Path) -> None:
    scan = read_cohort(cohort).scans[0]
    whole, own = read_volume(scan.image)
    middle = whole.shape[2] // 2
    volume = whole[:, :, middle - 5 : middle + 5]
    own = Grid(volume.shape, own.affine)
    plain = shipped.segment(volume, own).labels
    assert np.isin(plain, LIVER).any()
    turned = Grid((own.shape[2], own.shape[0], own.shape[1]), own.affine[:, [2, 0, 1, 3]])
    assert np.array_equal(shipped.segment(volume.transpose(2, 0, 1), turned).labels, plain.transpose(2, 0, 1))
    flip = own.affine.copy()
    flip[:3, 3] += flip[:3, 0] * (own.shape[0] - 1)
    flip[:3, 0] *= -1
    assert np.array_equal(shipped.segment(volume[::-1], Grid(own.shape, flip)).labels, plain[::-1])


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((64, 48, 1), (6.0, 6.0, 8.0)),
        ((40, 30, 600), (9.0, 9.0, 0.5)),
        ((300, 260, 3), (0.3, 0.3, 5.0)),
        ((30, 24, 12), (12.0, 12.0, 12.0)),
        ((17, 90, 70), (14.0, 4.0, 4.0)),
        ((1, 1, 1), (1.0, 1.0, 1.0)),
        ((50, 40, 6), (7.0, 7.0, 40.0)),
    ],
)
@pytest.mark.parametrize("content", ["noise", "zero", "constant", "int", "huge"])
def test_any_volume_gives_labels_on_its_own_grid(
    small: Segmenter, shape: tuple[int, int, int], spacing: tuple[float, float, float], content: str
) -> None:
    random = np.random.default_rng(1)
    volume = {
        "noise": random.uniform(0, 500, shape).astype(np.float32),
        "zero": np.zeros(shape, np.int16),
        "constant": np.full(shape, 7.0),
        "int": random.integers(-200, 3000, shape).astype(np.int16),
        "huge": random.uniform(0, 1e30, shape),
    }[content]
    found = small.segment(volume, grid(shape, spacing))
    assert found.labels.shape == shape and found.labels.dtype == np.uint8 and found.labels.max() <= len(ORGANS)


def test_nothing_is_found_where_there_is_nothing(shipped: Segmenter) -> None:
    shape = (96, 80, 12)
    for volume in (np.zeros(shape), np.full(shape, 100.0), np.random.default_rng(0).uniform(0, 100, shape)):
        found = shipped.segment(volume, grid(shape, (4.0, 4.0, 7.0)))
        assert found.volumes["liver"] < 60


def test_threads_and_callers_contexts_do_not_matter(small: Segmenter) -> None:
    volume = np.random.default_rng(0).uniform(0, 100, (60, 50, 9)).astype(np.float32)
    own = grid(volume.shape, (5.0, 5.0, 6.0))
    plain = small.segment(volume, own).labels
    with torch.inference_mode(), torch.autocast("cpu"):
        assert np.array_equal(small.segment(volume, own).labels, plain)


def test_working_grid_keeps_places(small: Segmenter) -> None:
    for shape, spacing in (
        ((31, 44, 53), (1.0, 2.0, 1.2)),
        ((9, 60, 60), (7.7, 1.25, 1.25)),
        ((4, 20, 20), (20.0, 6, 6)),
    ):
        oriented = Grid(shape, np.diag([*spacing, 1.0]))
        working = WorkingGrid.of(oriented)
        mask = np.zeros(shape, np.float32)
        mask[tuple(slice(size // 4, size - size // 3) for size in shape)] = 1
        share = working.reduce(mask)
        back = working.enlarge(torch.stack([1 - share, share]))
        assert dice(back > 0, mask > 0) > 0.93, (shape, spacing)


def test_channels_do_not_feel_gain_and_offset() -> None:
    image = torch.from_numpy(np.random.default_rng(0).gamma(2, 40, (5, 40, 48)).astype(np.float32))
    assert torch.allclose(channels(image), channels(image * 7 + 300), atol=1e-3)
    assert channels(torch.full((2, 32, 32), 5.0)).abs().max() == 0


def test_fusing_changes_nothing() -> None:
    torch.manual_seed(1)
    network = OrganNetwork(SMALL)
    network(torch.randn(2, 3, 2, 16, 16))  # moves the running statistics
    network.eval()
    inputs = torch.randn(1, 4, 2, 16, 20)
    before = network(inputs)
    assert torch.allclose(fused(network)(inputs), before, atol=1e-4)


def test_small_pieces_go_and_holes_are_filled() -> None:
    labels = np.full((3, 20, 20), BODY)
    labels[:, 4:14, 3:12] = 1
    labels[1, 8, 6] = BODY  # a vessel
    labels[1, 17, 17] = 2  # a speck
    shares = (
        torch.nn.functional.one_hot(torch.from_numpy(labels), len(ORGANS) + 1).movedim(-1, 0).float() * 0.9 + 0.1 / 13
    )
    after = clean(shares).argmax(dim=0).numpy()
    assert after[1, 8, 6] == 1 and after[1, 17, 17] == BODY and (after == 1).sum() == 270


@pytest.mark.parametrize(("asked", "expected"), [(0.0, True), (1.0, True), (1e4, False)])
def test_ascites_that_is_nowhere_certain_is_none(asked: float, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of 4 x 12 x 12 pixels is ascites with a probability of 0.995, and a larger one with 0.6."""

    def look(self: Segmenter, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        found = torch.zeros(len(ORGANS) + 1, *image.shape)
        found[ASCITES, :, 4:20, 4:30] = 0.6
        found[ASCITES, :, 4:16, 4:16] = 0.995
        found[BODY] = 1 - found[ASCITES]
        return found, []

    monkeypatch.setattr(Segmenter, "_look", look)
    segmenter = Segmenter(OrganNetwork(SMALL).eval(), SegmenterConfig(SMALL, "test", certain_ascites=asked))
    volume = np.random.default_rng(0).random((40, 36, 4)).astype(np.float32)
    found = segmenter.segment(volume, Grid(volume.shape, np.diag([-3.0, -3.0, 5.0, 1.0])))
    assert bool((found.labels == ASCITES).any()) is expected
    assert found.observed[EXPECTED_ASCITES] > 0  # whatever was decided
    plain = Segmenter(OrganNetwork(SMALL).eval(), SegmenterConfig(SMALL, "test"))
    assert not asked or segmenter.fingerprint != plain.fingerprint


def damage(folder: Path, how: str) -> str:
    """Damage a segmenter's folder; the file that has to be named."""
    config, weights = folder / "config.json", folder / "segmenter.safetensors"
    stored = json.loads(config.read_text())
    if how == "no weights":
        weights.unlink()
        return ""
    if how in ("widths", "classes", "format", "organs"):
        if how == "widths":
            stored["network"]["widths"] = [4, 10**9]
        elif how == "classes":
            stored["network"] = [4]
        elif how == "format":
            stored["format"] = True  # which Python takes for 1
        else:
            stored["organs"] = ["liver"]
        config.write_text(json.dumps(stored))
        return config.name
    if how == "not json":
        config.write_text("{")
        return config.name
    if how == "cut short":
        weights.write_bytes(weights.read_bytes()[:500])
        return weights.name
    if how == "pickle":
        weights.write_bytes(b"\x80\x04K\x01.")
        return weights.name
    tensors = load_file(weights)
    if how == "other shape":
        tensors["head.weight"] = torch.zeros(2, 2)
    elif how == "nan":
        tensors["head.bias"] = torch.full_like(tensors["head.bias"], float("nan"))
    elif how == "variance":
        name = next(name for name in tensors if name.endswith("running_var"))
        tensors[name] = -tensors[name] - 1
    elif how == "another type":
        tensors["head.bias"] = tensors["head.bias"].double()
    elif how == "too large":
        tensors["more"] = torch.zeros(LARGEST // 4 + 10)
    save_file(tensors, weights)
    return weights.name


@pytest.mark.parametrize(
    "how",
    [
        *("no weights", "widths", "classes", "format", "organs", "not json", "cut short", "pickle"),
        *("other shape", "nan", "variance", "another type", "too large"),
    ],
)
def test_damaged_folders_are_refused_by_name(tmp_path: Path, how: str) -> None:
    torch.manual_seed(0)
    save_network(tmp_path, OrganNetwork(SMALL).state_dict(), SegmenterConfig(SMALL, "test"))
    load_network(tmp_path)
    named = damage(tmp_path, how)
    with pytest.raises(InputError) as caught:
        Segmenter.load(tmp_path)
    assert Path(caught.value.where) in (tmp_path / named, tmp_path)


def test_the_shipped_one_is_small_and_described() -> None:
    folder = shipped_folder()
    assert (folder / "segmenter.safetensors").stat().st_size <= 6_000_000
    card = (folder / "card.md").read_text(encoding="utf-8").lower()
    assert all(word in card for word in ("simulated", "not a medical device", "fails"))
    assert Segmenter.load().fingerprint == Segmenter.load(folder).fingerprint


def test_a_copy_has_the_fingerprint_and_other_weights_do_not(tmp_path: Path, shipped: Segmenter) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(shipped_folder(), copied)
    assert Segmenter.load(copied).fingerprint == shipped.fingerprint
    tensors = load_file(copied / "segmenter.safetensors")
    tensors["head.bias"] += 0.5
    save_file(tensors, copied / "segmenter.safetensors")
    assert Segmenter.load(copied).fingerprint != shipped.fingerprint


REAL = os.environ.get("CIRRNB_EXTERNAL_DATA")


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="CIRRNB_EXTERNAL_DATA is not set")
@pytest.mark.parametrize(
    ("image", "labels", "liver", "least"),
    [
        ("totalsegmentator_mr/example_mr_sm.nii.gz", "totalsegmentator_mr/example_seg_mr.nii.gz", 5, 0.70),
        ("chaos_t2/image_1.nii.gz", "chaos_t2/label_1.nii.gz", 1, 0.6),
        ("chaos_t2/image_2.nii.gz", "chaos_t2/label_2.nii.gz", 1, 0.6),
        ("chaos_t2/image_3.nii.gz", "chaos_t2/label_3.nii.gz", 1, 0.6),
    ],
)
def test_livers_of_real_scans(shipped: Segmenter, image: str, labels: str, liver: int, least: float) -> None:
    assert REAL is not None
    volume, own = read_volume(Path(REAL) / image)
    truth, _ = read_volume(Path(REAL) / labels)
    assert dice(shipped.segment(volume, own).liver, truth == liver) > least
