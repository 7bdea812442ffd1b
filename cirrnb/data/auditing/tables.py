"""The tables of an audit: counts beside what was published, and who, how and with what was scanned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cirrnb.data.layouts.published import SOURCES
from cirrnb.data.scan import SPLITS
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale

if TYPE_CHECKING:
    import pandas as pd


_UNSTAGED, _NO_SPLIT = "no stage", "no split"


def audit_tables(scans: pd.DataFrame, scale: StageScale = CIRRHOSIS) -> dict[str, pd.DataFrame]:
    """All tables by name, in the order of a report; `scans` is the table of an audit's scans, staged by `scale`."""
    published = scale.names == CIRRHOSIS.names and set(scans.source) <= set(SOURCES)
    tables = {"counts": counts(scans)} if published else {}
    return tables | {
        "stages": stages(scans, scale),
        "acquisition": acquisition(scans),
        "people": people(scans, scale),
        "volumes": volumes(scans, scale),
        "masks": masks(scans),
    }


def counts(scans: pd.DataFrame) -> pd.DataFrame:
    """Line by line what was published and what is found: columns line, published, found, agrees ("yes", "no", or "-"
    where the cohort has nothing to count)."""
    import pandas as pd

    scans = scans[["subject", "source", "sequence", "split", "stage", "sex", "age", "liver_volume"]]
    rows = []
    for figure in published_figures():
        found = float(figure.count(scans))
        near = abs(found - figure.published) <= figure.tolerance
        agrees = "-" if pd.isna(found) else "yes" if near else "no"
        within = f" (± {figure.tolerance:.0f})" if figure.tolerance else ""
        rows.append((figure.line + within, figure.published, round(found, 1), agrees))
    return pd.DataFrame(rows, columns=["line", "published", "found", "agrees"])


def stages(scans: pd.DataFrame, scale: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """Scans of each stage, by source, sequence and split."""
    import pandas as pd

    names = [*scale, _UNSTAGED]
    split = pd.Series(pd.Categorical(scans.split.fillna(_NO_SPLIT), [*SPLITS, _NO_SPLIT]), scans.index, name="split")
    table = pd.crosstab([scans.source, scans.sequence, split], scans.stage.fillna(_UNSTAGED))
    table = table.reindex(columns=names, fill_value=0)
    return table.assign(scans=table.sum(axis=1)).rename_axis(columns=None).reset_index()


def acquisition(scans: pd.DataFrame) -> pd.DataFrame:
    """Types, matrices, spacings (mm), orientations and values, by source and sequence; ranges as "a to b"."""
    import pandas as pd

    rows = []
    for (source, sequence), own in scans[scans.problem.isna()].groupby(["source", "sequence"]):
        rows.append(
            {
                "source": source,
                "sequence": sequence,
                "scans": len(own),
                "in plane": _range(own.in_plane),
                "between slices": _range(own.through_plane),
                "slices": _range(own.slices),
                "published (60 scans)": GEOMETRY.get(str(sequence), "") if source == "cirrhotic" else "",
                "matrices": _most(own.matrix, 3),
                "orientation": _most(own.orientation, 3),
                "type": _most(own["dtype"], 3),
                "smallest": _range(own.minimum),
                "99th percentile": _range(own.top),
                "largest": _range(own.maximum),
            }
        )
    return pd.DataFrame(rows)


def people(scans: pd.DataFrame, scale: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """Patients of each source and stage: number, share of women, age in years."""
    import pandas as pd

    patients = scans.groupby("subject").first()  # the first known value of each column
    patients["stage"] = pd.Categorical(patients.stage.fillna(_UNSTAGED), [*scale, _UNSTAGED])
    rows = []
    for (source, name), own in patients.groupby(["source", "stage"], observed=True):
        known = own.sex.notna().sum()
        rows.append(
            {
                "source": source,
                "stage": name,
                "patients": len(own),
                "women": f"{(own.sex == 'female').sum()} of {known}" if known else "",
                "age, mean": round(own.age.astype(float).mean(), 1),
                "age, sd": round(own.age.astype(float).std(), 1),
                "age": _range(own.age),
            }
        )
    return pd.DataFrame(rows)


def volumes(scans: pd.DataFrame, scale: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """Liver volume in mL by source, sequence and stage, from the masks."""
    import pandas as pd

    stage = pd.Categorical(scans.stage.fillna(_UNSTAGED), [*scale, _UNSTAGED])
    known = scans.assign(stage=stage)[scans.liver_volume.notna()]
    rows = []
    for (source, sequence, name), own in known.groupby(["source", "sequence", "stage"], observed=True):
        first, median, third = own.liver_volume.quantile([0.25, 0.5, 0.75])
        quartiles = {"quartile 1, mL": first, "median, mL": median, "quartile 3, mL": third}
        row = {"source": source, "sequence": sequence, "stage": name, "masks": len(own)}
        rows.append(row | {column: round(value) for column, value in quartiles.items()})
    return pd.DataFrame(rows, columns=["source", "sequence", "stage", "masks", *_QUARTILES])


_QUARTILES = ("quartile 1, mL", "median, mL", "quartile 3, mL")


def masks(scans: pd.DataFrame) -> pd.DataFrame:
    """How many masks are fine, missing or wrong, by source and sequence."""
    import pandas as pd

    state = scans.mask_state.fillna("scan unreadable")
    table = pd.crosstab([scans.source, scans.sequence], state)
    return table.rename_axis(columns=None).reset_index()


def _range(values: pd.Series) -> str:
    known = values.dropna().astype(float)
    if known.empty:
        return ""
    low, high = f"{known.min():.4g}", f"{known.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _most(values: pd.Series, number: int) -> str:
    """The most frequent values with their counts."""
    found = values.value_counts()
    shown = [f"{value} ({count})" for value, count in found.head(number).items()]
    rest = f" and {len(found) - number} more" if len(found) > number else ""
    return ", ".join(shown) + rest


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
