"""What has been published about CirrMRI600+, line by line, and how each line is counted in a cohort at hand.

Sources: Jha et al., Scientific Data 12, 896 (2025), doi 10.1038/s41597-025-05201-7; the data set's own tables and file
names, doi 10.17605/OSF.IO/CUK24; paired patients per split: Zeng et al., arXiv 2502.18225. Liver volumes were
computed from the published masks. The papers say 339 patients, the files hold 337.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cirrnb.data.scan import SPLITS
from cirrnb.data.stages import CIRRHOSIS

if TYPE_CHECKING:
    import pandas as pd

Count = Callable[["pd.DataFrame"], float]

SPLIT_COUNTS = {"T1W": (248, 31, 31), "T2W": (256, 31, 31)}
STAGE_COUNTS = {"T1W": (127, 109, 74), "T2W": (131, 114, 73)}
PAIRED_STAGES = (121, 107, 63)
TEST_STAGES_T2W = (16, 6, 9)
PAIRED_SPLITS = (234, 28, 29)
CONFLICTING = ("47", "56", "393", "460", "463", "464", "471")
"""Patients whose T1W and T2W scans stand in different splits."""
LIVER_VOLUMES_T2W = (1418.0, 1354.0, 1145.0)
GEOMETRY = {"T1W": "0.64 to 1.73; 1.5 to 5; 60 to 160", "T2W": "0.68 to 1.41; 5.5 to 8.5; 28 to 49"}
"""mm in plane; mm between slices; slices: ranges of a sample of 60 scans."""


@dataclass(frozen=True)
class PublishedFigure:
    """One line: what it says, the published number, how to count it, and how far off still agrees.

    `count` takes the table of an audit's scans. Counts agree exactly; `tolerance` is for what a simulation draws anew.
    """

    line: str
    published: float
    count: Count
    tolerance: float = 0.0


def published_figures() -> list[PublishedFigure]:
    """All lines, in the order of the tables they come from."""
    return [*_scans(), *_stages(), *_splits(), *_people()]


def _scans() -> Iterator[PublishedFigure]:
    yield PublishedFigure("cirrhotic scans", 628, lambda scans: len(_of(scans)))
    for sequence, splits in SPLIT_COUNTS.items():
        for split, number in zip(SPLITS, splits, strict=True):
            yield PublishedFigure(f"{sequence} {split} scans", number, _rows(sequence=sequence, split=split))
    yield PublishedFigure("patients", 337, lambda scans: _of(scans).subject.nunique())
    yield PublishedFigure("patients with both sequences", 291, lambda scans: len(_paired(scans)))
    for sequence, number in (("T1W", 19), ("T2W", 27)):
        yield PublishedFigure(f"patients with {sequence} alone", number, _alone(sequence))
    for sequence in SPLIT_COUNTS:
        yield PublishedFigure(f"{sequence} healthy subjects", 55, _rows("healthy", sequence=sequence))


def _stages() -> Iterator[PublishedFigure]:
    for sequence, counts in STAGE_COUNTS.items():
        for stage, number in zip(CIRRHOSIS, counts, strict=True):
            yield PublishedFigure(f"{sequence} {stage}", number, _rows(sequence=sequence, stage=stage))
    for stage, number in zip(CIRRHOSIS, PAIRED_STAGES, strict=True):
        yield PublishedFigure(f"both sequences {stage}", number, _among_paired("stage", stage))
    for stage, number in zip(CIRRHOSIS, TEST_STAGES_T2W, strict=True):
        line = f"T2W test {stage}"
        yield PublishedFigure(line, number, _rows(sequence="T2W", split="test", stage=stage))


def _splits() -> Iterator[PublishedFigure]:
    yield PublishedFigure("patients whose sequences stand in different splits", 7, lambda scans: len(_torn(scans)))
    line = f"the published ones among them ({' '.join(CONFLICTING)})"
    yield PublishedFigure(line, 7, lambda scans: len(_torn(scans) & {f"cirrhotic/{one}" for one in CONFLICTING}))
    for split, number in zip(SPLITS, PAIRED_SPLITS, strict=True):
        yield PublishedFigure(f"both sequences {split} (T2W split)", number, _among_paired("split", split))


def _people() -> Iterator[PublishedFigure]:
    for sex, number in (("female", 128), ("male", 190)):
        yield PublishedFigure(f"T2W {sex} patients", number, _rows(sequence="T2W", sex=sex), 25)
    yield PublishedFigure("T2W mean age", 60.1, lambda scans: _of(scans, sequence="T2W").age.mean(), 2)
    yield PublishedFigure("T2W youngest", 20, lambda scans: _of(scans, sequence="T2W").age.min(), 5)
    yield PublishedFigure("T2W oldest", 92, lambda scans: _of(scans, sequence="T2W").age.max(), 5)
    for stage, volume in zip(CIRRHOSIS, LIVER_VOLUMES_T2W, strict=True):
        yield PublishedFigure(f"T2W {stage} median liver volume in mL", volume, _median_volume(stage), 0.15 * volume)


def _of(scans: pd.DataFrame, source: str = "cirrhotic", **fields: str) -> pd.DataFrame:
    chosen = scans.source == source
    for name, value in fields.items():
        chosen &= scans[name] == value
    return scans[chosen]


def _rows(source: str = "cirrhotic", **fields: str) -> Count:
    return lambda scans: len(_of(scans, source, **fields))


def _median_volume(stage: str) -> Count:
    return lambda scans: _of(scans, sequence="T2W", stage=stage).liver_volume.median()


def _paired(scans: pd.DataFrame) -> set[str]:
    return set(_of(scans, sequence="T1W").subject) & set(_of(scans, sequence="T2W").subject)


def _alone(sequence: str) -> Count:
    return lambda scans: len(set(_of(scans, sequence=sequence).subject) - _paired(scans))


def _among_paired(field: str, value: str) -> Count:
    """Patients with both sequences whose T2W scan has a value."""
    return lambda scans: len(_paired(scans) & set(_of(scans, sequence="T2W", **{field: value}).subject))


def _torn(scans: pd.DataFrame) -> set[str]:
    splits = _of(scans).groupby("subject").split.nunique()
    return set(splits.index[splits > 1])
