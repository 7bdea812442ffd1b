"""The tables of an audit: counts beside what was published, and who, how and with what was scanned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirrnb.data.auditing.published_figures import GEOMETRY, published_figures
from cirrnb.data.layouts.published import SOURCES
from cirrnb.data.scan import SPLITS
from cirrnb.data.stages import CIRRHOSIS, StageScale

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
