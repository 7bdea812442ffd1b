"""Patients for training a stager: bodies of every build, with diseases of two dozen populations, as tissue shares.

The benchmark's patients are of one population, in which every sign follows severity closely, so that a network that
reads one sign does well. Here correlations, onsets and readers differ from population to population, and every second
patient has signs that are independent of each other: only a network that reads every sign does well on all of them.
Tissue shares around the liver are stored once; each visit of a training then draws another contrast and acquisition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.simulation import liver, organs
from cirrnb.simulation.anatomy import Anatomy, build_anatomy, load_anatomy, save_anatomy
from cirrnb.simulation.body import Body
from cirrnb.simulation.patients import Plan, draw_patient
from cirrnb.simulation.populations import BENCHMARK, INDEPENDENT, Population, draw_population
from cirrnb.simulation.signs import CHANNELS
from cirrnb.simulation.tissue_shares import LIVER

TRAINING_VERSION = 2
"""Raised by hand when the patient of an equal number changes; a test guards it."""
STREAM = 61
"""Keeps these random numbers apart from those of cohorts and of the segmenter's bodies."""
SPACING = (2.5, 2.0, 2.0)
"""mm along slices, rows, columns of stored shares."""
AROUND = (18.0, 128.0, 146.0)
"""mm beyond the liver's slices, and to either side of its middle along rows and columns, that are stored."""
COARSE = 7.0
INDEPENDENT_SHARE, BENCHMARK_SHARE = 0.5, 0.2
POPULATIONS = 24

_random = np.random.default_rng([STREAM, 0])
DRAWN = tuple(draw_population(_random, f"drawn {number}") for number in range(POPULATIONS))


@dataclass(frozen=True)
class TrainingPatient:
    """The truth of one patient; volumes in mL.

    Attributes
    ----------
    number : of the patient; it determines everything else.
    population : name of the population the disease was drawn from.
    stage, severity : of that population's reader.
    shown : channel -> how strongly the sign shows, 0 to 1.
    liver_volume, spleen_volume : of the body.
    """

    number: int
    population: str
    stage: str
    severity: float
    shown: Mapping[str, float]
    liver_volume: float
    spleen_volume: float


def population_of_patient(number: int) -> Population:
    """The population of a training patient."""
    random = np.random.default_rng([STREAM, 1, number])
    kind, which = random.random(), int(random.integers(POPULATIONS))
    if kind < INDEPENDENT_SHARE:
        return INDEPENDENT
    return BENCHMARK if kind < INDEPENDENT_SHARE + BENCHMARK_SHARE else DRAWN[which]


def draw_training_patient(number: int) -> tuple[TrainingPatient, Body]:
    """Truth and body of a training patient."""
    population = population_of_patient(number)
    patient = draw_patient(Plan(number, str(number), "cirrhotic", {}), 10_000 * STREAM, population)
    assert patient.latent is not None
    random = np.random.default_rng([STREAM, 2, number])
    body, liver_volume, spleen_volume = patient.body, patient.liver_volume, patient.spleen_volume
    if random.random() < 0.6:
        body, liver_volume, spleen_volume = _widened(random, body, liver_volume, spleen_volume)
    truth = TrainingPatient(
        number,
        population.name,
        patient.latent.stage,
        patient.latent.severity,
        dict(patient.latent.shown),
        liver_volume,
        spleen_volume,
    )
    return truth, body


def _widened(
    random: np.random.Generator, body: Body, liver_volume: float, spleen_volume: float
) -> tuple[Body, float, float]:
    """A build beyond the benchmark's: lean or obese, other proportions and shapes; volumes vary a little."""
    variations = {name: float(np.clip(1.4 * value, -3, 3)) for name, value in body.own.items()}
    stretch = random.uniform(0.9, 1.12, 3)
    scale = (
        float(np.clip(body.scale[0] * stretch[0], 0.78, 1.3)),
        float(np.clip(body.scale[1] * stretch[1], 0.75, 1.35)),
        float(np.clip(body.scale[2] * stretch[2], 0.82, 1.18)),
    )
    fat = float(np.exp(random.uniform(np.log(4), np.log(50))))
    body = replace(body, own=variations, scale=scale, fat=fat, wall=float(random.uniform(0.7, 1.3)))
    body = liver.solve_size(body, liver_volume * float(np.exp(0.1 * random.standard_normal())))
    body = organs.solve_spleen(body, spleen_volume * float(np.exp(0.1 * random.standard_normal())))
    return body, liver.volume(body), organs.spleen_volume(body)


def build_training_anatomy(body: Body) -> Anatomy:
    """Tissue shares around a body's liver."""
    reach = np.array(liver.BOX_HIGH) * np.array(body.scale) + 30
    lowest = np.array(liver.BOX_LOW) * np.array(body.scale) - 30
    coarse = build_anatomy(body, tuple(lowest), tuple(reach), (COARSE, COARSE, COARSE))
    lines = [np.flatnonzero(np.isin(coarse.label, LIVER).any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    first = [origin + COARSE * line[0] for origin, line in zip(coarse.origin, lines, strict=True)]
    last = [origin + COARSE * line[-1] for origin, line in zip(coarse.origin, lines, strict=True)]
    middle = [(a + b) / 2 for a, b in zip(first, last, strict=True)]
    low = (middle[2] - AROUND[2], middle[1] - AROUND[1], first[0] - AROUND[0])
    high = (middle[2] + AROUND[2], middle[1] + AROUND[1], last[0] + AROUND[0])
    return build_anatomy(body, low, high, SPACING)


def files_of(folder: Path, number: int) -> tuple[Path, Path]:
    """Where a patient's shares and truth are kept."""
    return folder / f"{number:06d}.anatomy", folder / f"{number:06d}.json"


def write_training_patient(folder: Path, number: int) -> None:
    """Build a patient into a folder. The truth is written last and marks it as complete."""
    truth, body = draw_training_patient(number)
    anatomy, record = files_of(folder, number)
    save_anatomy(anatomy, build_training_anatomy(body))
    stored = {**vars(truth), "shown": dict(truth.shown), "version": TRAINING_VERSION}
    atomic_write(record, json.dumps(stored) + "\n")


def read_training_patient(folder: Path, number: int) -> tuple[TrainingPatient, Anatomy]:
    """What `write_training_patient` wrote. Raises InputError for files that are damaged or of another version."""
    return read_truth(folder, number), load_anatomy(files_of(folder, number)[0])


def read_truth(folder: Path, number: int) -> TrainingPatient:
    """The truth alone of what `write_training_patient` wrote. Raises InputError likewise."""
    _, path = files_of(folder, number)
    expected, remedy = f"the truth of a training patient, version {TRAINING_VERSION}", "Remove it; it is built again."
    stored: dict[str, Any] = read_object(path, expected, remedy)
    try:
        if stored.pop("version") != TRAINING_VERSION:
            raise ValueError("another version")
        patient = TrainingPatient(**stored)
        if set(patient.shown) != {channel.name for channel in CHANNELS}:
            raise ValueError("other signs")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"not readable ({error})", expected, remedy) from error
    return patient
