"""A report of many patients at a glance: who was staged as what, how surely, and whom to look at first."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from cirrnb.data.stage_scale import StageScale, stage_scale
from cirrnb.data.status import DOUBTFUL
from cirrnb.view.page import Fragment
from cirrnb.view.theme import finish

UNCERTAINTY = {
    "one stage": 1.0,
    "two stages": 0.55,
    "three stages": 0.45,
    "several stages": 0.35,
    "any stage": 0.25,
    "not calibrated": 0.55,
}
"""What a set of stages says, the surest first, and how strongly it is drawn."""

_FIRST = 20


def counts(made: pd.DataFrame, failed: pd.DataFrame) -> Fragment:
    """How many patients have a page, are flagged, and have none."""
    flagged = int(made["flags"].notna().sum())
    open_ones = int((made["uncertainty"] == "any stage").sum())
    figures = [
        (len(made), "with a page"),
        (flagged, "with something missing or unusual"),
        (open_ones, "of whom no stage can be ruled out"),
        (len(failed), "without a page"),
    ]
    return Fragment("".join(f"<div><b>{number}</b><span>{words}</span></div>" for number, words in figures), "counts")


def uncertainty_of(possible: int, stages: int) -> str:
    """What a set of so many stages says: a name among `UNCERTAINTY`; 0 stands for no set."""
    if not possible:
        return "not calibrated"
    named = {1: "one stage", 2: "two stages", 3: "three stages"}
    return "any stage" if possible == stages else named.get(possible, "several stages")


def scale_of(made: pd.DataFrame) -> StageScale:
    """The scale of a report's summary, from its columns between predicted and set."""
    names = [str(name) for name in made]
    return stage_scale(names[names.index("predicted") + 1 : names.index("set")])


def stages_figure(made: pd.DataFrame, *, simulated: bool) -> go.Figure:
    """Patients by the most probable stage, by how many stages are possible."""
    stages = scale_of(made)
    figure = go.Figure()
    for uncertainty, strength in UNCERTAINTY.items():
        rows = made[made["uncertainty"] == uncertainty]
        if len(rows):
            figure.add_bar(
                y=list(stages),
                x=[int((rows["predicted"] == stage).sum()) for stage in stages],
                name=uncertainty if uncertainty == "not calibrated" else f"{uncertainty} possible",
                orientation="h",
                marker={"color": list(stages.colours)},
                opacity=strength,
            )
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(title_text="patients", rangemode="tozero", dtick=1 if len(made) < 12 else None)
    return finish(figure, "Most probable stage, and how many are possible", simulated=simulated, height=280)


def look_first(made: pd.DataFrame) -> pd.DataFrame:
    """Patients with flags or doubts, then those of whom nothing is ruled out, the least sure first; at most 20."""
    doubt = made[list(scale_of(made))].max(axis=1)
    rows = made.assign(doubt=doubt, flagged=made["flags"].notna() | (made["status"] == DOUBTFUL))
    rows = rows[rows["flagged"] | (rows["uncertainty"] == "any stage")]
    rows = rows.sort_values(["flagged", "doubt"], ascending=[False, True], kind="stable").head(_FIRST)
    rows = rows.assign(**{name: rows[name].mask(rows["hidden"], "hidden") for name in ("predicted", "uncertainty")})
    columns = {
        "subject": "patient",
        "predicted": "most likely",
        "uncertainty": "possible",
        "status": "status",
        "flags": "flags",
    }
    return rows[list(columns)].rename(columns=columns)


def recorded_table(made: pd.DataFrame) -> pd.DataFrame:
    """Recorded stages as rows, the most probable ones as columns; number of patients."""
    known = made.dropna(subset=["stage"])
    stages = list(scale_of(made))
    crossed = pd.crosstab(known["stage"], known["predicted"])
    return crossed.reindex(index=stages, columns=stages, fill_value=0).rename_axis(
        index="recorded", columns="most probable"
    )


def maps_table(made: pd.DataFrame) -> pd.DataFrame:
    """In how many patients a map beat its control maps in both tests, in one, in neither."""
    names = {"both": "both", "deletion": "deletion only", "insertion": "insertion only", "neither": "neither"}
    counts = {words: int((made["map"] == name).sum()) for name, words in names.items()}
    counts["could not be tested"] = int((made["map"] == "undefined").sum())
    return pd.DataFrame({"patients": counts})
