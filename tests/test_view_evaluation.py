"""Figures of calibration and of comparisons hold the numbers they were given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from prediction_tables import drawn, table

from cirrnb.evaluation.comparison import compare_all
from cirrnb.evaluation.evaluation import by_group, evaluate
from cirrnb.evaluation.reference_paper import beside_published, slice_accuracy
from cirrnb.view import calibration, comparison, evaluation
from cirrnb.view.palette import SIMULATED

GOOD = table(*drawn(60)).assign(set="mild|moderate", sequences="T1W")
# Everybody who is severe is called mild.
POOR = GOOD.assign(predicted=GOOD["predicted"].where(GOOD["predicted"] != "severe", "mild"))
JUDGED = evaluate(GOOD, resamples=100, ceiling=0.9)
TABLES = {"good": JUDGED.table, "poor": evaluate(POOR, resamples=100, ceiling=0.9).table}
COMPARED = compare_all({"good": GOOD, "poor": POOR, "same": GOOD}, "good", resamples=100)

IMPORTANCE = pd.DataFrame(
    {"group": ["T2W shape", "age"], "features": [21, 1], "loss": [0.3, -0.01], "sd": [0.05, 0.01]}
)

FIGURES: dict[str, Callable[[bool], go.Figure]] = {
    "mistakes": lambda simulated: comparison.mistakes({"good": GOOD, "poor": POOR}, simulated=simulated),
    "importance": lambda simulated: comparison.importance_bars(IMPORTANCE, name="it", simulated=simulated),
    "reliability": lambda simulated: calibration.reliability_diagram(JUDGED.reliability, simulated=simulated),
    "sets": lambda simulated: calibration.set_coverage(JUDGED.coverage, aimed=0.9, simulated=simulated),
    "models": lambda simulated: comparison.model_forest(TABLES, simulated=simulated),
    "differences": lambda simulated: comparison.difference_forest(COMPARED, reference="good", simulated=simulated),
}


def words(figure: go.Figure) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_title_and_says_that_its_cohort_is_simulated(name: str) -> None:
    assert words(FIGURES[name](True)).count(SIMULATED) == 1
    assert SIMULATED not in words(FIGURES[name](False))
    layout = FIGURES[name](True).layout
    assert layout.title.text and layout.height > 100 and layout.template.layout.paper_bgcolor == "white"


def test_reliability_shows_bins_that_hold_patients() -> None:
    line, marks, bars = calibration.reliability_diagram(JUDGED.reliability, simulated=True).data
    told = JUDGED.reliability[JUDGED.reliability["n"] > 0]
    assert list(line.x) == list(line.y) == [0, 100]
    np.testing.assert_allclose(marks.x, 100 * told["confidence"])
    np.testing.assert_allclose(np.array(marks.y) + np.array(marks.error_y.array), 100 * told["high"])
    assert sum(bars.y) == 60 and len(bars.y) == 10


def test_sets_show_coverage_and_sizes() -> None:
    figure = calibration.set_coverage(JUDGED.coverage, aimed=0.9, simulated=True)
    marks, one, two, three, line = figure.data
    np.testing.assert_allclose(marks.x, 100 * JUDGED.coverage["coverage"])
    assert list(one.x) == [0] * 4 and list(two.x) == [100] * 4 and list(three.x) == [0] * 4
    assert line.name == "coverage aimed at, 90 %" and list(line.x) == [90, 90]
    row = JUDGED.coverage.iloc[0]
    assert words(figure)[0].startswith(f"{100 * row['coverage']:.0f} % (")
    assert len(calibration.set_coverage(JUDGED.coverage, simulated=True).data) == 4
    shown = calibration.set_table(JUDGED.coverage)
    assert list(shown.index) == ["all patients", "mild", "moderate", "severe"]
    assert shown.loc["severe", "set holds the true stage (95 % interval)"].startswith("0 % (0 to ")
    assert shown.loc["mild", "two stages"] == "100%" and shown.loc["all patients", "patients"] == 60


def test_a_stage_that_nobody_has_is_left_out_of_the_figure_and_said_in_the_table() -> None:
    two = evaluate(GOOD[GOOD["stage"] != "moderate"], resamples=50).coverage
    assert len(calibration.set_coverage(two, simulated=True).data[0].x) == 3
    assert calibration.set_table(two).loc["moderate", "set holds the true stage (95 % interval)"] == "nobody"


def test_stagers_stand_beside_one_another_with_what_is_easy_and_what_is_possible() -> None:
    figure = comparison.model_forest(TABLES, metric="accuracy", simulated=True)
    marks, *lines = figure.data
    good, poor = (TABLES[name].set_index("metric").loc["accuracy"] for name in ("good", "poor"))
    assert list(marks.y) == ["good", "poor"] and list(marks.x) == [good["value"], poor["value"]]
    assert [line.name.split()[0] for line in lines] == ["chance", "majority", "ceiling"]
    assert words(figure)[0] == f"{good['value']:.2f} ({good['low']:.2f} to {good['high']:.2f})"
    shared = comparison.model_forest(TABLES, simulated=True)
    assert [line.name for line in shared.data[1:]] == ["chance and majority 0.00"]
    lower = comparison.model_forest(TABLES, metric="Brier score", simulated=True)
    assert "lower is better" in lower.layout.xaxis.title.text
    with pytest.raises(ValueError, match="poor has no accuracy"):
        comparison.model_forest(TABLES | {"poor": TABLES["poor"][:1]}, metric="accuracy", simulated=True)
    with pytest.raises(ValueError, match="no tables"):
        comparison.model_forest({}, simulated=True)


def test_differences_are_told_with_sign_and_corrected_p() -> None:
    figure = comparison.difference_forest(COMPARED, reference="good", metric="accuracy", simulated=True)
    marks, line = figure.data
    told = COMPARED[COMPARED["metric"] == "accuracy"]
    np.testing.assert_allclose(marks.x, told["difference"])
    assert told["p_holm"].iloc[0] < 0.001
    assert marks.y[0].startswith("poor<br>") and "p (Holm) below 0.001" in marks.y[0]
    assert words(figure)[0].startswith("+") and words(figure)[1] == "+0.00 (no interval)"
    assert list(line.x) == [0, 0] and "good is better" in figure.layout.xaxis.title.text
    with pytest.raises(ValueError, match="no rows of F9"):
        comparison.difference_forest(COMPARED, reference="good", metric="F9", simulated=True)


def test_the_ceiling_stands_where_it_is_known() -> None:
    names = [trace.name for trace in evaluation.metric_forest(JUDGED.table, simulated=True).data]
    assert names == ["chance", "majority stage", "ceiling, where known", "stager, 95 % interval"]
    shown = evaluation.metric_table(JUDGED.table)
    assert shown.loc["accuracy", "ceiling"] == "0.90" and shown.loc["Brier score", "ceiling"] == ""
    assert "ceiling" not in evaluation.metric_table(evaluate(GOOD, resamples=50).table)


def test_groups_and_published_figures_as_tables_to_read() -> None:
    told = GOOD.assign(sequences=["T1W"] * 20 + ["T1W+T2W"] * 39 + ["T2W"])
    shown = evaluation.group_table(by_group(told, "sequences", resamples=100))
    assert shown["patients"].to_dict() == {"T1W+T2W": 39, "T1W": 20}
    assert evaluation.group_table(by_group(GOOD, "subject")).empty
    slices = slice_accuracy(pd.concat([GOOD] * 3), resamples=100)
    rows = evaluation.published_table(beside_published(JUDGED, slices))
    assert rows["accuracy (95 % interval)"].to_list()[:2] == ["72.8 %", "63.8 %"]
    assert rows.loc["this stager", "comparable with the paper"] == "no: counted by patient"
    assert rows.loc["this stager, as the paper counts", "counted by"] == "slice"
    assert rows["majority"].to_list()[:2] == ["56.0 %", "51.6 %"] and rows["n"].to_list()[0] == "29 patients"
    simulated = beside_published(evaluate(GOOD.assign(simulated=True), resamples=50), slices)
    assert simulated["comparable"].to_list()[2:] == [
        "no: counted by patient and simulated patients",
        "no: simulated patients",
    ]


def test_mistakes_show_who_is_wrong_and_what_was_told():
    silent = POOR.assign(predicted=POOR["predicted"].where(POOR.index != 0, None))
    figure = comparison.mistakes({"good": GOOD, "poor": POOR, "silent": silent}, simulated=True)
    shown = np.asarray(figure.data[0].z, dtype=int)
    wrong = (GOOD["stage"] != GOOD["predicted"]).sum(), (POOR["stage"] != POOR["predicted"]).sum()
    assert shown.shape == (3, 60) and ((shown[:2] >= 0).sum(axis=1) == wrong).all() and (shown[2] == -2).sum() == 1
    assert list(figure.data[0].y[:2]) == [f"good ({wrong[0]} wrong)", f"poor ({wrong[1]} wrong)"]
    severe = sum("severe: predicted mild" in text for text in figure.data[0].text[1])
    assert severe == ((POOR["stage"] == "severe") & (POOR["predicted"] == "mild")).sum() > 0
    with pytest.raises(ValueError, match="no patient of split valid"):
        comparison.mistakes({"good": GOOD}, split="valid", simulated=True)
    bars = comparison.importance_bars(IMPORTANCE, name="it", simulated=False).data[0]
    assert list(bars.y) == ["age", "T2W shape (21)"] and list(bars.x) == [-0.01, 0.3]
