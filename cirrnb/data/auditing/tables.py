"""The tables of an audit: counts compared with the published ones, stages, patients, acquisition, volumes, masks.

Published about CirrMRI600+: Jha et al., Scientific Data 12, 896 (2025), doi 10.1038/s41597-025-05201-7; the data set's
own tables and file names, doi 10.17605/OSF.IO/CUK24; paired patients per split: Zeng et al., arXiv 2502.18225. Liver
volumes were computed from the published masks. The papers say 339 patients, the files hold 337.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cirrnb.data.layouts.published import SOURCES
from cirrnb.data.numbers import figure
from cirrnb.data.scan import SPLITS
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale

if TYPE_CHECKING:
    import pandas as pd

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

_UNSTAGED, _NO_SPLIT = "no stage", "no split"


def audit_tables(scans: pd.DataFrame, scale: StageScale = CIRRHOSIS) -> dict[str, pd.DataFrame]:
    """All tables by name, in the order of a report; `scans` is the table of an audit's scans, staged by `scale`."""
    published = scale.names == CIRRHOSIS.names and set(scans.source) <= set(SOURCES)
    tables = {"counts": counts(scans)} if published else {}
    return tables | {
        "stages": stages(scans, scale),
        "acquisition": acquisition(scans),
        "patients": patients(scans, scale),
        "volumes": volumes(scans, scale),
        "masks": masks(scans),
    }


def counts(scans: pd.DataFrame) -> pd.DataFrame:
    """Line by line what was published and what the scans of an audit hold.

    Columns: line, published, found, agrees ("yes", "no", or "-" where the cohort has nothing to count). Counts agree
    exactly; lines with a tolerance, which they name, are those that a simulation draws anew.
    """
    import pandas as pd

    rows = []
    for line, published, count, tolerance in _published_lines(scans):
        agrees = "-" if pd.isna(count) else "yes" if abs(count - published) <= tolerance else "no"
        named = f"{line} (± {tolerance:.0f})" if tolerance else line
        rows.append((named, float(published), round(float(count), 1), agrees))
    return pd.DataFrame(rows, columns=["line", "published", "found", "agrees"])


def _published_lines(scans: pd.DataFrame) -> Iterator[tuple[str, float, float, float]]:
    """Line, published number, the same counted in `scans`, and how far off still agrees."""
    cirrhotic, healthy = (scans[scans.source == source] for source in ("cirrhotic", "healthy"))
    of = {sequence: cirrhotic[cirrhotic.sequence == sequence] for sequence in SPLIT_COUNTS}
    t2w = of["T2W"]
    subjects = {sequence: set(table.subject) for sequence, table in of.items()}
    paired = t2w[t2w.subject.isin(subjects["T1W"])].drop_duplicates("subject")
    splits = cirrhotic.groupby("subject").split.nunique()
    conflicting = set(splits.index[splits > 1])
    yield "cirrhotic scans", 628, len(cirrhotic), 0
    for sequence, numbers in SPLIT_COUNTS.items():
        for split, number in zip(SPLITS, numbers, strict=True):
            yield f"{sequence} {split} scans", number, (of[sequence].split == split).sum(), 0
    yield "patients", 337, cirrhotic.subject.nunique(), 0
    yield "patients with both sequences", 291, len(paired), 0
    yield "patients with T1W alone", 19, len(subjects["T1W"] - subjects["T2W"]), 0
    yield "patients with T2W alone", 27, len(subjects["T2W"] - subjects["T1W"]), 0
    for sequence in SPLIT_COUNTS:
        yield f"{sequence} healthy subjects", 55, (healthy.sequence == sequence).sum(), 0
    for sequence, numbers in STAGE_COUNTS.items():
        for stage, number in zip(CIRRHOSIS, numbers, strict=True):
            yield f"{sequence} {stage}", number, (of[sequence].stage == stage).sum(), 0
    for stage, number in zip(CIRRHOSIS, PAIRED_STAGES, strict=True):
        yield f"both sequences {stage}", number, (paired.stage == stage).sum(), 0
    for stage, number in zip(CIRRHOSIS, TEST_STAGES_T2W, strict=True):
        yield f"T2W test {stage}", number, ((t2w.split == "test") & (t2w.stage == stage)).sum(), 0
    yield "patients whose sequences stand in different splits", 7, len(conflicting), 0
    published = {f"cirrhotic/{patient}" for patient in CONFLICTING}
    yield f"the published ones among them ({' '.join(CONFLICTING)})", 7, len(conflicting & published), 0
    for split, number in zip(SPLITS, PAIRED_SPLITS, strict=True):
        yield f"both sequences {split} (T2W split)", number, (paired.split == split).sum(), 0
    for sex, number in (("female", 128), ("male", 190)):
        yield f"T2W {sex} patients", number, (t2w.sex == sex).sum(), 25
    yield "T2W mean age", 60.1, t2w.age.mean(), 2
    yield "T2W youngest", 20, t2w.age.min(), 5
    yield "T2W oldest", 92, t2w.age.max(), 5
    for stage, volume in zip(CIRRHOSIS, LIVER_VOLUMES_T2W, strict=True):
        median = t2w[t2w.stage == stage].liver_volume.median()
        yield f"T2W {stage} median liver volume in mL", volume, median, 0.15 * volume


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
    for (source, sequence), group in scans[scans.problem.isna()].groupby(["source", "sequence"]):
        rows.append(
            {
                "source": source,
                "sequence": sequence,
                "scans": len(group),
                "in plane": _range(group.in_plane),
                "between slices": _range(group.through_plane),
                "slices": _range(group.slices),
                "published (60 scans)": GEOMETRY.get(str(sequence), "") if source == "cirrhotic" else "",
                "matrices": _most(group.matrix, 3),
                "orientation": _most(group.orientation, 3),
                "type": _most(group["dtype"], 3),
                "smallest": _range(group.minimum),
                "99th percentile": _range(group.top),
                "largest": _range(group.maximum),
            }
        )
    return pd.DataFrame(rows)


def patients(scans: pd.DataFrame, scale: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """Patients of each source and stage: number, share of women, age in years."""
    import pandas as pd

    table = scans.groupby("subject").first()  # the first known value of each column
    table["stage"] = pd.Categorical(table.stage.fillna(_UNSTAGED), [*scale, _UNSTAGED])
    rows = []
    for (source, name), group in table.groupby(["source", "stage"], observed=True):
        known = group.sex.notna().sum()
        rows.append(
            {
                "source": source,
                "stage": name,
                "patients": len(group),
                "women": f"{(group.sex == 'female').sum()} of {known}" if known else "",
                "age, mean": round(group.age.astype(float).mean(), 1),
                "age, sd": round(group.age.astype(float).std(), 1),
                "age": _range(group.age),
            }
        )
    return pd.DataFrame(rows)


def volumes(scans: pd.DataFrame, scale: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """Liver volume in mL by source, sequence and stage, from the masks."""
    import pandas as pd

    stage = pd.Categorical(scans.stage.fillna(_UNSTAGED), [*scale, _UNSTAGED])
    columns = ["source", "sequence", "stage", "masks", "quartile 1, mL", "median, mL", "quartile 3, mL"]
    known = scans.assign(stage=stage)[scans.liver_volume.notna()]
    rows = []
    for (source, sequence, name), group in known.groupby(["source", "sequence", "stage"], observed=True):
        quartiles = group.liver_volume.quantile([0.25, 0.5, 0.75]).round().astype(int)
        rows.append((source, sequence, name, len(group), *quartiles))
    return pd.DataFrame(rows, columns=columns)


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
    low, high = figure(known.min()), figure(known.max())
    return low if low == high else f"{low} to {high}"


def _most(values: pd.Series, number: int) -> str:
    """The most frequent values with their counts."""
    counted = values.value_counts()
    shown = [f"{value} ({count})" for value, count in counted.head(number).items()]
    rest = f" and {len(counted) - number} more" if len(counted) > number else ""
    return ", ".join(shown) + rest
