"""What was published about CirrMRI600+: ids, splits, stages, geometry, age and sex; the simulated cohort repeats it.

Counts, ids and splits: Jha et al., Scientific Data 12:896 (2025), doi 10.1038/s41597-025-05201-7, and the files' names.
Matrices and spacings: 60 of its scans. Only such facts are repeated here, no row of a patient's table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cirrnb.data.stage_scale import CIRRHOSIS


def _ids(text: str) -> tuple[int, ...]:
    ends = [piece.split("-") for piece in text.split()]
    return tuple(number for piece in ends for number in range(int(piece[0]), int(piece[-1]) + 1))


PATIENTS = _ids(
    "3-5 8-10 12-13 17-29 31 35 37-40 42-44 46-48 50-51 53 56 58 60 62-65 68-69 72-74 76-82 84-85 88-89 91-96 "
    "98-103 105-106 108-112 114-121 123-131 135-137 140-147 149-150 152-155 157-165 168-169 171-175 177-180 182 "
    "184 186-187 189 191-201 203-204 207-211 213-214 218 227 229-230 244-250 252-257 259-264 267-269 272-275 "
    "277-280 282-284 287-297 299 303-304 307-312 314 316-319 323 325-327 329 332 335 337-340 342 344-348 351-355 "
    "357 360-363 365-366 369 371 374-383 386 388-394 396-397 399-401 403 406-408 410-412 416 419-423 425 427-428 "
    "430-434 437-439 441-443 445-449 452 455 458-460 463-464 471-472 479 481-483 486-490 492-493 495 497-498 "
    "500-502 506-507 509-512 "
)
HEALTHY = _ids("1-4 7 9 11-13 15-19 22-27 29-36 39-41 43 45-47 49 51 53-54 59-61 63 65-68 70-73 75-77 79 ")
ONLY_T1W = _ids("13 21 39 98 101 124 159 171 197 203 207 210 260 275 278 279 360 390 455")
ONLY_T2W = _ids("3 18 22 79 99 110 116 121 136 145 173 194 218 246 248 255 264 277 348 354 357 401 438 449 495 498 506")
SPLIT_COUNTS = {"T1W": (248, 31, 31), "T2W": (256, 31, 31)}

STAGES_T2W = {"train": (102, 99, 55), "valid": (13, 9, 9), "test": (16, 6, 9)}
"""Mild, moderate and severe patients with T2W in each split: 131 / 114 / 73 in all."""

STAGES_ONLY_T2W = {"train": (8, 6, 8), "valid": (1, 1, 1), "test": (1, 0, 1)}
"""Of these, patients without T1W: what 131 / 114 / 73 leave beyond the paired 121 / 107 / 63."""

STAGES_ONLY_T1W = (6, 2, 11)
"""What T1W's 127 / 109 / 74 have beyond the paired ones: 19, staged in the T1W table, unstaged in the complete."""

AGE_QUANTILES = ((0.0, 20.0), (0.05, 32.0), (0.25, 53.0), (0.5, 62.0), (0.75, 70.0), (0.95, 78.0), (1.0, 92.0))
MALE_SHARE = 190 / 318
LIVER_VOLUME = {"mild": 1418.0, "moderate": 1354.0, "severe": 1145.0}
"""Median liver volume in mL of the T2W masks."""
LIVER_VOLUME_SPREAD = {"mild": 0.293, "moderate": 0.355, "severe": 0.427}
"""Standard deviation of its logarithm."""

GEOMETRY: dict[str, tuple[tuple[tuple[int, int, int], tuple[float, float, float]], ...]] = {
    "T1W": (
        ((256, 176, 60), (1.7266, 1.7266, 4.0)),  # seen 2 times
        ((256, 176, 60), (1.7266, 1.7266, 5.0)),
        ((256, 176, 72), (1.7266, 1.7266, 4.0)),
        ((256, 192, 60), (1.6016, 1.6016, 4.0)),
        ((256, 208, 80), (1.7188, 1.7188, 3.6)),
        ((320, 258, 104), (1.1719, 1.1719, 2.9999)),
        ((320, 260, 72), (1.25, 1.25, 3.6)),
        ((320, 260, 80), (1.125, 1.125, 3.6)),  # seen 5 times
        ((320, 260, 80), (1.1875, 1.1875, 3.6)),  # seen 2 times
        ((320, 260, 80), (1.25, 1.25, 3.6)),
        ((320, 260, 80), (1.3125, 1.3125, 3.6)),
        ((320, 260, 80), (1.375, 1.375, 3.6)),
        ((320, 260, 104), (1.25, 1.25, 3.6)),
        ((320, 280, 80), (1.375, 1.375, 3.6)),
        ((352, 352, 115), (1.0653, 1.0653, 2.2)),
        ((384, 384, 115), (1.0286, 1.0286, 2.2)),
        ((432, 432, 160), (0.9375, 0.9375, 1.5)),
        ((480, 480, 150), (0.7812, 0.7812, 1.75)),
        ((512, 512, 100), (0.6445, 0.6445, 2.4)),
    ),
    "T2W": (
        ((320, 250, 30), (1.3438, 1.3438, 7.2)),
        ((320, 250, 30), (1.4062, 1.4062, 7.2)),
        ((320, 260, 35), (1.0, 1.0, 7.2)),
        ((320, 260, 35), (1.125, 1.125, 7.2)),  # seen 4 times
        ((320, 260, 35), (1.1875, 1.1875, 8.1)),
        ((320, 260, 35), (1.3438, 1.3438, 8.1)),
        ((320, 260, 37), (1.125, 1.125, 7.2)),
        ((320, 260, 40), (1.1875, 1.1875, 7.2)),
        ((320, 260, 40), (1.25, 1.25, 7.2)),
        ((336, 336, 30), (1.1458, 1.1458, 8.5)),
        ((432, 432, 33), (0.9144, 0.9144, 8.5)),
        ((480, 480, 42), (0.7812, 0.7812, 6.6)),
        ((512, 384, 35), (0.6836, 0.6836, 6.6)),
        ((512, 384, 35), (0.6836, 0.6836, 7.2)),  # seen 2 times
        ((512, 384, 35), (0.7422, 0.7422, 7.2)),
        ((512, 384, 35), (0.7812, 0.7812, 6.6)),
        ((512, 384, 35), (0.7812, 0.7812, 7.2)),
        ((512, 384, 35), (0.9375, 0.9375, 7.8)),
        ((512, 384, 40), (0.7422, 0.7422, 6.6)),  # seen 2 times
        ((512, 416, 36), (0.7031, 0.7031, 6.6)),  # seen 2 times
        ((512, 416, 36), (0.7031, 0.7031, 8.4)),
        ((512, 416, 40), (0.7031, 0.7031, 6.6)),
        ((512, 416, 42), (0.7422, 0.7422, 6.6)),
        ((512, 416, 45), (0.7422, 0.7422, 7.2)),  # seen 2 times
        ((512, 512, 41), (0.7715, 0.7715, 6.6)),
        ((512, 512, 49), (0.752, 0.752, 5.5)),
        ((528, 528, 32), (0.7212, 0.7212, 8.0)),
        ((560, 560, 28), (0.7054, 0.7054, 8.5)),
    ),
}


@dataclass(frozen=True)
class Place:
    """One published patient's place in the cohort.

    Attributes
    ----------
    patient : id. stage : what the reader gave. splits : sequence -> split, for the sequences that exist.
    """

    patient: int
    stage: str
    splits: dict[str, str]


def official_splits() -> dict[str, dict[int, str]]:
    """Sequence -> id -> split: string-sorted ids, cut by the published counts.

    One T2W patient, 393, stands in valid though its neighbours are in train; with the two sequences' own lists
    that gives the seven known conflicts: 393, 460, 463, 464, 47, 471 between train and valid, 56 between test and
    valid.
    """
    splits: dict[str, dict[int, str]] = {}
    for sequence, missing in (("T1W", ONLY_T2W), ("T2W", ONLY_T1W)):
        ids = sorted(set(PATIENTS) - set(missing), key=str)
        if sequence == "T2W":
            ids.remove(393)
        train, valid, _ = SPLIT_COUNTS[sequence]
        valid -= sequence == "T2W"
        cuts = ["train"] * train + ["valid"] * valid + ["test"] * (len(ids) - train - valid)
        splits[sequence] = dict(zip(ids, cuts, strict=True))
    splits["T2W"][393] = "valid"
    return splits


def places() -> list[Place]:
    """All 337 patients with stages such that every published count holds, in the order of their ids.

    Who has which stage is drawn once and for all; it is not that of the real patients.
    """
    splits = official_splits()
    random = np.random.default_rng(337)
    stages: dict[int, str] = {}
    for split, counts in STAGES_T2W.items():
        members = [patient for patient, patient_split in splits["T2W"].items() if patient_split == split]
        alone = [patient for patient in members if patient in ONLY_T2W]
        paired = [patient for patient in members if patient not in ONLY_T2W]
        stages |= _deal(random, alone, STAGES_ONLY_T2W[split])
        rest = tuple(a - b for a, b in zip(counts, STAGES_ONLY_T2W[split], strict=True))
        stages |= _deal(random, paired, rest)
    stages |= _deal(random, list(ONLY_T1W), STAGES_ONLY_T1W)
    return [
        Place(
            patient,
            stages[patient],
            {name: by_patient[patient] for name, by_patient in splits.items() if patient in by_patient},
        )
        for patient in PATIENTS
    ]


def _deal(random: np.random.Generator, patients: list[int], counts: tuple[int, ...]) -> dict[int, str]:
    names = [stage for stage, count in zip(CIRRHOSIS, counts, strict=True) for _ in range(count)]
    return dict(zip(patients, random.permutation(names).tolist(), strict=True))
