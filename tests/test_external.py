"""External validation and comparisons of reports, with figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cirrnb.cli import app
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Cohort, Scan
from cirrnb.evaluation.external import (
    EVERYBODY,
    by_subgroup,
    changed_answers,
    difference_table,
    group_text,
    paired_differences,
    with_column,
)
from cirrnb.evaluation.metrics import area_under_curve

STAGES = ("mild", "moderate", "severe")


def predictions(count: int = 30, skill: float = 1.0, seed: int = 0, sequences: str = "T1W+T2W") -> pd.DataFrame:
    random = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    scores = random.normal(0, 1, (count, 3))
    scores[np.arange(count), truth] += skill
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    table = pd.DataFrame(chances, columns=list(STAGES))
    table.insert(0, "predicted", [STAGES[index] for index in chances.argmax(axis=1)])
    table.insert(0, "stage", [STAGES[index] for index in truth])
    table.insert(0, "subject", [f"imported/{number}" for number in range(count)])
    return table.assign(sequences=sequences, split=None, simulated=True)


def test_patients_with_one_sequence_stand_in_rows_of_their_own():
    table = predictions()
    table.loc[:8, "sequences"] = "T2W"
    table.loc[9, "sequences"] = "T1W"  # one patient is no group
    rows = by_subgroup(table, resamples=100)
    groups = list(dict.fromkeys(rows["group"]))
    assert groups == [EVERYBODY, "sequences T1W+T2W", "sequences T2W"]
    counted = rows[rows["metric"] == "accuracy"].set_index("group")
    assert counted["n"].tolist() == [30, 20, 9]
    own = table[table["sequences"] == "T2W"]
    assert counted.loc["sequences T2W", "value"] == pytest.approx((own["stage"] == own["predicted"]).mean())
    assert {"AUC mild", "AUC moderate", "AUC severe", "quadratic weighted kappa"} <= set(rows["metric"])
    text = group_text(rows)
    assert list(text.index) == groups and text.loc[EVERYBODY, "majority"] == "0.333"


def test_paired_differences_of_the_auc_by_hand():
    good, poor = predictions(skill=2.0), predictions(skill=0.3, seed=1)
    rows = paired_differences(good, poor, resamples=300).set_index("metric")
    truth = np.arange(30) % 3
    for stage, name in enumerate(STAGES):
        values = [
            float(area_under_curve(stage, one[list(STAGES)].to_numpy(), truth)(np.ones((1, 30)))[0])
            for one in (good, poor)
        ]
        assert rows.loc[f"AUC {name}", "difference"] == pytest.approx(values[0] - values[1])
        assert rows.loc[f"AUC {name}", "low"] < values[0] - values[1] < rows.loc[f"AUC {name}", "high"]
    alike = paired_differences(good, good.sample(frac=1, random_state=0), resamples=100)
    assert (alike["difference"] == 0).all()
    told = difference_table(good, {"poor": poor.iloc[:20]}, resamples=100)
    assert set(told["n"]) == {20} and set(told.index) == {"poor"}


def test_who_changed_and_by_which_signs():
    a = pd.DataFrame(
        {
            "subject": ["p/1", "p/2", "p/3"],
            "stage": ["mild", "severe", None],
            "predicted": ["mild", "moderate", "mild"],
            "mild": [0.8, 0.2, 0.6],
            "moderate": [0.1, 0.5, 0.3],
            "severe": [0.1, 0.3, 0.1],
            "sign spleen": [0.1, 0.2, 0.5],
            "sign ascites": [0.0, 0.1, 0.5],
        }
    )
    b = a.assign(predicted=["mild", "severe", "moderate"])
    b.loc[1, ["mild", "moderate", "severe", "sign spleen", "sign ascites"]] = [0.1, 0.2, 0.7, 0.6, 0.13]
    b.loc[2, ["mild", "moderate"]] = [0.3, 0.6]
    rows = changed_answers(a, b)
    assert rows["subject"].tolist() == ["p/2", "p/3"]
    assert rows.loc[0, ["towards", "right", "signs"]].tolist() == ["later", "b", "spleen 0.20 to 0.60"]
    assert rows.loc[0, "shift"] == pytest.approx((0.2 + 1.4) - (0.5 + 0.6))
    assert rows.loc[1, ["right", "signs"]].tolist() == ["", ""]
    with pytest.raises(InputError, match="no patient in common"):
        changed_answers(a, b.assign(subject=["q/1", "q/2", "q/3"]))


def test_the_command_compares_two_tables(tmp_path: Path):
    for name, seed in (("a", 0), ("b", 1)):
        predictions(seed=seed).to_csv(tmp_path / f"{name}.csv", index=False)
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    done = CliRunner().invoke(app, ["compare", *files, "--resamples", "100", "--out", str(tmp_path / "who.csv")])
    assert done.exit_code == 0, done.output
    changed = pd.read_csv(tmp_path / "who.csv")
    differ = (predictions(seed=0)["predicted"] != predictions(seed=1)["predicted"]).sum()
    assert len(changed) == differ and f"{differ} of 30" in done.output and "AUC severe" in done.output


def test_a_site_is_of_a_patient():
    scans = [Scan(str(n), s, Path(f"{n}{s}.nii"), "mild", extra={"site": "A" if n < 2 else "B"}) for n in range(3) for s in ("T1W", "T2W")]  # fmt: skip  # noqa: E501
    cohort = Cohort(tuple(scans), "two sites", simulated=True)
    table = pd.DataFrame({"subject": [scan.subject for scan in scans[::2]]})
    assert with_column(table, cohort, "site")["site"].tolist() == ["A", "A", "B"]
    with pytest.raises(InputError, match="site"):
        with_column(table, cohort, "scanner")
