"""Who is in a cohort: stages by sequence and split, age and liver volume by stage."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cirrnb.data.scan import SPLITS
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.view.palette import UNSTAGED
from cirrnb.view.theme import finish, on_colour

_NO_STAGE = "not staged"
_NO_SPLIT = "no split"


def summary(patients: pd.DataFrame, stages: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """Number of patients of each stage with what is known of them, as a table to read.

    `patients` has one row a patient, as `Cohort.patients`; `stages` is the cohort's scale.
    """
    rows = {}
    for name in (*stages, _NO_STAGE, "all"):
        chosen = patients
        if name != "all":
            chosen = patients[patients["stage"].isna() if name == _NO_STAGE else patients["stage"] == name]
        if not len(chosen):
            continue
        age = pd.to_numeric(chosen["age"]).dropna()
        rows[name] = {
            "patients": len(chosen),
            **_sequences(chosen),
            "female / male": f"{(chosen['sex'] == 'female').sum()} / {(chosen['sex'] == 'male').sum()}",
            "age in years, median (range)": _range(age),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _sequences(chosen: pd.DataFrame) -> dict[str, int]:
    """How many patients have which sequences; with more than two, how many have each."""
    sequences = [name for name in chosen if name not in _KNOWN_OF_PATIENTS]
    present = chosen[sequences].astype(bool)
    counts = {" and ".join(map(str, sequences)): int(present.all(axis=1).sum())} if len(sequences) > 1 else {}
    alone = present[present.sum(axis=1) == 1] if len(sequences) == 2 else present
    return counts | {f"only {name}" if len(sequences) == 2 else str(name): int(alone[name].sum()) for name in sequences}


_KNOWN_OF_PATIENTS = ("patient", "source", "stage", "age", "sex", "split")


def _range(ages: pd.Series) -> str:
    return f"{ages.median():.0f} ({ages.min():.0f} to {ages.max():.0f})" if len(ages) else "unknown"


def split_counts(patients: pd.DataFrame, scale: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """Number of patients of each stage in each split, as a table to read; `patients` as `Cohort.patients`."""
    splits = patients["split"].astype(object).where(patients["split"].notna(), _NO_SPLIT)
    stages = patients["stage"].astype(object).where(patients["stage"].notna(), _NO_STAGE)
    counts = pd.crosstab(splits, stages, margins=True, margins_name="all")
    order = [name for name in (*SPLITS, "conflicting", _NO_SPLIT, "all") if name in counts.index]
    columns = [name for name in (*scale, _NO_STAGE, "all") if name in counts.columns]
    return counts.loc[order, columns].rename_axis(None).rename_axis("patients", axis=1)


def stage_counts(scans: pd.DataFrame, *, simulated: bool, scale: StageScale = CIRRHOSIS) -> go.Figure:
    """Number of scans of each stage, by sequence and split, as stacked bars.

    `scans` has one row a scan with the columns sequence, split and stage, as `Cohort.table`.
    """
    sequences = sorted(scans["sequence"].unique())
    splits = scans["split"].astype(object).where(scans["split"].notna(), _NO_SPLIT)
    stages = scans["stage"].astype(object).where(scans["stage"].notna(), _NO_STAGE)
    shown = [name for name in (*SPLITS, "conflicting", _NO_SPLIT) if (splits == name).any()]
    figure = make_subplots(rows=1, cols=max(1, len(sequences)), shared_yaxes=True, horizontal_spacing=0.04)
    for column, sequence in enumerate(sequences, start=1):
        of_sequence = scans["sequence"] == sequence
        for stage in (*scale, _NO_STAGE):
            counts = [int((of_sequence & (splits == split) & (stages == stage)).sum()) for split in shown]
            if stage == _NO_STAGE and not sum(counts):
                continue
            figure.add_bar(
                x=shown,
                y=counts,
                name=stage,
                legendgroup=stage,
                showlegend=column == 1,
                marker={"color": scale.colour.get(stage, UNSTAGED), "line": {"color": "white", "width": 1}},
                text=[count or "" for count in counts],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                constraintext="none",
                textfont={"color": on_colour(scale.colour.get(stage, UNSTAGED))},
                hovertemplate=f"{sequence}, %{{x}}: %{{y}} {stage}<extra></extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=f"{sequence}, {int(of_sequence.sum())} scans", showgrid=False, row=1, col=column)
    figure.update_yaxes(title_text="scans", row=1, col=1)
    figure.update_layout(barmode="stack")
    return finish(figure, "Stages in each split", simulated=simulated, height=400)


def age_by_stage(patients: pd.DataFrame, *, simulated: bool, scale: StageScale = CIRRHOSIS) -> go.Figure:
    """Age in years of each patient, by stage.

    `patients` has one row a patient with the columns age and stage, as `Cohort.patients`.
    """
    figure = make_subplots(rows=1, cols=1)
    _boxes(figure, patients, "age", "%{x:.0f} years", scale, column=1)
    figure.update_xaxes(title_text="age in years")
    return finish(figure, "Age by stage", simulated=simulated, height=320)


def liver_volume_by_stage(scans: pd.DataFrame, *, simulated: bool, scale: StageScale = CIRRHOSIS) -> go.Figure:
    """Liver volume in mL of each scan, by stage, one panel a sequence.

    `scans` has one row a scan with the columns subject, sequence, stage and liver_volume (mL), as `Audit.scans`; scans
    without a volume are left out.
    """
    measured = scans[scans["liver_volume"].notna()]
    sequences = sorted(measured["sequence"].unique())
    figure = make_subplots(rows=1, cols=max(1, len(sequences)), horizontal_spacing=0.13)
    for column, sequence in enumerate(sequences, start=1):
        _boxes(figure, measured[measured["sequence"] == sequence], "liver_volume", "%{x:.0f} mL", scale, column=column)
        figure.update_xaxes(title_text=f"liver volume on {sequence} in mL", row=1, col=column)
    return finish(figure, "Liver volume by stage", simulated=simulated, height=320)


def _boxes(figure: go.Figure, table: pd.DataFrame, values: str, hover: str, scale: StageScale, *, column: int) -> None:
    """A box with its points for each stage, the mildest on top; the axis tells how many there are."""
    labels = []
    for stage in scale:
        rows = table.loc[(table["stage"] == stage) & table[values].notna()]
        labels.append(_label(stage, len(rows)))
        figure.add_box(
            x=rows[values],
            y=[stage] * len(rows),
            text=_names(rows),
            orientation="h",
            name=stage,
            showlegend=False,
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            width=0.6,
            line={"color": scale.colour[stage], "width": 1.5},
            fillcolor="rgba(0, 0, 0, 0)",
            marker={"color": scale.colour[stage], "size": 5, "opacity": 0.5},
            hovertemplate=f"%{{text}} {stage}: {hover}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=list(scale),
        autorange="reversed",
        tickvals=list(scale),
        ticktext=labels,
        showgrid=False,
        row=1,
        col=column,
    )


def _label(stage: str, count: int) -> str:
    return f"{stage}<br>n = {count}"


def _names(table: pd.DataFrame) -> Sequence[str]:
    return [str(name) for name in table.get("subject", table.index)]
