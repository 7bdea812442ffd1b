"""One patient's scans: what scanner, what grid, what comes out, and the files that are written."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cirrnb.data.atomic_files import atomic_file
from cirrnb.data.grid import Grid
from cirrnb.data.sequences import T1W_T2W
from cirrnb.simulation import published
from cirrnb.simulation.body import HALF_DEPTH, HALF_WIDTH, Body
from cirrnb.simulation.patients import Patient
from cirrnb.simulation.sampling import Clean, Sampling, nearest, organ_map, place, sample, to_matrix
from cirrnb.simulation.signal import Protocol, acquire, draw_protocol, receive_field, tissue_signals
from cirrnb.simulation.signs import SIGNS

SCANNERS = {"A": "1.5 T", "B": "3 T"}
VISIBLE_CHANGE = 0.06
"""Change against the twin, relative to the liver's signal, from which a voxel counts as evidence."""


@dataclass(frozen=True)
class Simulated:
    """One scan as it is written: arrays (x, y, z) on `grid`, stored to the left, back and head."""

    sequence: str
    grid: Grid
    image: NDArray[np.int16 | np.uint16]
    mask: NDArray[np.uint8]
    evidence: NDArray[np.uint8]
    twins: dict[str, NDArray[np.int16 | np.uint16]]
    organs: NDArray[np.uint8] | None = None


def scanner(patient: Patient, seed: int, shortcut: str | None) -> str:
    """The patient's scanner: drawn without regard to the stage, unless the shortcut ties it in training patients, or to
    whether somebody is healthy."""
    if shortcut in ("healthy-a", "healthy-b"):
        healthy_scanner = shortcut[-1].upper()
        return healthy_scanner if patient.plan.source == "healthy" else "B" if healthy_scanner == "A" else "A"
    random = np.random.default_rng([seed, patient.plan.index, 3])
    chance = 0.5
    if shortcut == "scanner" and "train" in patient.plan.splits.values() and patient.stage:
        chance = {"mild": 0.05, "moderate": 0.5, "severe": 0.95}[patient.stage]
    return "B" if random.random() < chance else "A"


def simulate_scan(
    patient: Patient, sequence: str, seed: int, scale: str, name: str, twins: bool, organs: bool = False
) -> Simulated:
    """One scan of a patient on scanner `name`; `organs` adds a map of the organs' labels."""
    random, protocol, sampling = scan_setting(patient, sequence, seed, scale, name)
    signals = tissue_signals(protocol)
    clean = sample(patient.body, sampling, signals, sequence)
    noise_seed = int(random.integers(2**62))
    unsigned = patient.plan.source == "healthy"

    def finish(signal: NDArray[np.float32]) -> NDArray[np.int16 | np.uint16]:
        return _finish(noise_seed, protocol, sampling, clean, signal, signals["liver"], unsigned)

    share = to_matrix(clean.liver, sampling.matrix)
    others: dict[str, NDArray[np.int16 | np.uint16]] = {}
    if twins and patient.latent:
        sign = SIGNS[patient.plan.index % len(SIGNS)]
        without = sample(patient.body.without(sign), sampling, signals, sequence, with_counterfactual=False)
        others = {"severity_zero": finish(clean.counterfactual), f"without_{sign}": finish(without.signal)}
    return Simulated(
        sequence,
        sampling.grid,
        finish(clean.signal),
        (share > 0.5).astype(np.uint8),
        nearest(evidence(clean, signals["liver"]), sampling.matrix),
        others,
        nearest(organ_map(patient.body, sampling), sampling.matrix) if organs else None,
    )


def scan_setting(
    patient: Patient, sequence: str, seed: int, scale: str, name: str
) -> tuple[np.random.Generator, Protocol, Sampling]:
    """How one scan of a patient is acquired on scanner `name` and lies over the body, and the generator that "
    "goes on."""
    random = np.random.default_rng([seed, patient.plan.index, 4, T1W_T2W.index(sequence)])
    protocol = draw_protocol(random, sequence, SCANNERS[name])
    return random, protocol, draw_sampling(random, patient.body, sequence, scale)


def evidence(clean: Clean, liver: float) -> NDArray[np.uint8]:
    """0 where the scan is as the twin's, else the number of the sign (place in `SIGNS`, from 1) that changed it.

    A voxel that no sign claims (fat that closed a gap, say) takes the label of the nearest one that is claimed.
    """
    changed = np.abs(clean.signal - clean.counterfactual) > VISIBLE_CHANGE * liver
    claimed = (clean.blame > 0.02) & changed
    if not claimed.any():
        return np.zeros(changed.shape, np.uint8)
    result = np.where(claimed, clean.label, 0).astype(np.uint8)
    if np.array_equal(claimed, changed):
        return result
    sides = [np.flatnonzero(changed.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(side[0], side[-1] + 1) for side in sides)
    where = distance_transform_edt(~claimed[box], return_distances=False, return_indices=True)
    result[box] = np.where(changed[box], clean.label[box][tuple(where)], 0)
    return result


def _finish(
    seed: int,
    protocol: Protocol,
    sampling: Sampling,
    clean: Clean,
    signal: NDArray[np.float32],
    liver: float,
    unsigned: bool,
) -> NDArray[np.int16 | np.uint16]:
    random = np.random.default_rng(seed)
    shading = receive_field(random, protocol, clean.points, (0.0, 10.0))
    image = to_matrix(acquire(random, protocol, signal * shading, liver), sampling.matrix)
    grey = np.clip(np.round(image * protocol.gain), 0, 32767)
    return grey.astype(np.uint16 if unsigned else np.int16)


def draw_sampling(random: np.random.Generator, body: Body, sequence: str, scale: str) -> Sampling:
    """A scan's grid: of the published kind for "full", otherwise as coarse as the scale says, fitted to the body."""
    gap = float(random.uniform(0.08, 0.2)) if sequence == "T2W" else 0.0
    wide = 2 * (HALF_WIDTH * body.scale[0] + 17 * body.wall + 0.95 * body.fat) + 16
    deep = HALF_DEPTH * body.scale[1] * 2.13 + 9 * body.wall + 1.8 * body.fat + 18
    high = 232.0 * body.scale[2]
    if scale == "full":
        matrix, spacing = _published_grid(random, sequence, (wide - 30, deep - 20, high - 8))
        share = min(1.0, spacing[0] / float(random.uniform(1.15, 1.5)))
        acquired = (2 * round(matrix[0] * share / 2), 2 * round(matrix[1] * share / 2))
        return place(random, body, matrix, spacing, acquired, gap)
    if scale == "small":
        pixel, coarse = float(random.uniform(1.9, 2.15)), 2.8
        thick = float(random.uniform(4.6, 5.2)) if sequence == "T1W" else float(random.uniform(7.0, 8.0))
    else:
        pixel, coarse = float(random.uniform(3.8, 4.2)), 7.5
        thick = float(random.uniform(9.0, 10.0)) if sequence == "T1W" else float(random.uniform(12.0, 13.0))
    matrix = (2 * round(wide / pixel / 2), 2 * round(deep / pixel / 2), round(high / thick))
    return place(random, body, matrix, (pixel, pixel, thick), matrix[:2], gap, coarse)


def _published_grid(
    random: np.random.Generator, sequence: str, needed: tuple[float, float, float]
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """One of the published grids that covers what is needed in mm, or the one that comes nearest."""
    choices = published.GEOMETRY[sequence]
    missing = [
        sum(max(0.0, want - count * step) for want, count, step in zip(needed, matrix, spacing, strict=True))
        for matrix, spacing in choices
    ]
    fitting = [choice for choice, short in zip(choices, missing, strict=True) if short <= min(missing)]
    return fitting[int(random.integers(len(fitting)))]


def write(path: Path, values: NDArray[np.int16 | np.uint16 | np.uint8], grid: Grid) -> None:
    """A gzipped NIfTI file whose bytes depend on nothing but its content, written atomically."""
    image = nib.Nifti1Image(values, grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(grid.affine, code=1)
    image.set_sform(grid.affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())
