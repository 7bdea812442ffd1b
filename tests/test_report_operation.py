"""What a nightly report says of itself: drift beside the last runs, and status.json."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import in_this_process, tiny_cohort
from scipy.stats import betabinom

from cirrnb.data.errors import InputError
from cirrnb.reports.drift import FEWEST, RUNS, Tally, compare, read_history, tally, write_history
from cirrnb.reports.operation import FIELDS, FINISHED, RUNNING, STOPPED, read_status, watched
from cirrnb.reports.report import make_report
from cirrnb.reports.request import ReportRequest

STAGES = ("mild", "moderate", "severe")
VOLUME = "liver volume (mL, T1W)"


def rows(
    number: int, doubtful: int = 0, severe: int = 0, volume: float = 1500.0, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of summary.csv."""
    values = np.random.default_rng(seed).normal(volume, 100, number)
    return [
        {
            "status": "doubtful" if place < doubtful else "answered",
            "predicted": "severe" if place < severe else "mild",
            VOLUME: float(values[place]),
            "spleen volume (mL, T2W)": None,
        }
        for place in range(number)
    ]


def usual(runs: int = 10, **more: Any) -> list[Tally]:
    return [tally(f"2026-01-{day + 1:02d}", rows(20, 2, 4, seed=day, **more), 1, STAGES) for day in range(runs)]


def test_a_run_is_summed_up_without_naming_anybody() -> None:
    run = tally("2026-01-01", rows(3, 1, 2), 2, STAGES)
    assert (run.patients, run.refused, run.answered) == (5, 2, 3)
    assert run.counts == {"doubtful": 1, "stage mild": 1, "stage moderate": 0, "stage severe": 2}
    number, total, squares = run.sums[VOLUME]
    values = [row[VOLUME] for row in rows(3, 1, 2)]
    assert number == 3 and total == pytest.approx(sum(values)) and squares == pytest.approx(np.square(values).sum())
    assert set(run.sums) == {VOLUME}


def test_a_usual_run_is_not_beyond_chance() -> None:
    drift = compare(tally("now", rows(20, 2, 4, seed=99), 1, STAGES), usual())
    assert (drift.new, drift.earlier, drift.runs) == (21, 210, 10)
    assert [figure.name for figure in drift.figures] == ["refused", "doubtful", *(f"stage {s}" for s in STAGES), VOLUME]
    assert not drift.unusual and "None is beyond chance" in str(drift)
    doubtful = drift.figures[1]
    assert (doubtful.now, doubtful.usual) == (0.1, 0.1)
    predicted = betabinom(20, 20.5, 180.5)
    assert (doubtful.low, doubtful.high) == (predicted.ppf(0.025) / 20, predicted.ppf(0.975) / 20)


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (tally("now", rows(10, 1, 2), 11, STAGES), "refused"),
        (tally("now", rows(20, 15, 4), 1, STAGES), "doubtful"),
        (tally("now", rows(20, 2, 18), 1, STAGES), "stage severe"),
        (tally("now", rows(20, 2, 4, volume=1800), 1, STAGES), VOLUME),
    ],
)
def test_each_kind_of_drift_is_found(run: Tally, name: str) -> None:
    drift = compare(run, usual())
    assert name in [figure.name for figure in drift.unusual]
    assert name in str(drift) and "Beyond chance" in str(drift)


def test_false_alarms_are_as_rare_as_said() -> None:
    """Of 300 runs that come from where the earlier ones come from, at most about one in twenty gives an alarm."""
    random, alarms = np.random.default_rng(3), 0
    for seed in range(300):
        history = [_drawn(random, seed * 40 + day) for day in range(12)]
        alarms += bool(compare(_drawn(random, seed * 40 + 39), history).unusual)
    assert alarms <= 25


def _drawn(random: np.random.Generator, seed: int) -> Tally:
    doubtful, severe, refused = (int(random.binomial(15, share)) for share in (0.1, 0.3, 0.05))
    return tally("day", rows(15, doubtful, severe, seed=seed), refused, STAGES)


def test_too_few_patients_are_not_compared() -> None:
    few = [tally("before", rows(FEWEST - 2), 0, STAGES)]
    assert compare(tally("now", rows(5), 0, STAGES), few).figures == ()
    nobody = compare(tally("now", [], 0, STAGES), usual())
    assert nobody.figures == () and str(nobody) == "No new patient in this run."


def test_only_the_last_runs_count() -> None:
    old = [tally("old", rows(20, 20, 20), 0, STAGES) for _ in range(20)]
    drift = compare(tally("now", rows(20, 2, 4), 1, STAGES), [*old, *usual(RUNS)])
    assert drift.runs == RUNS and not drift.unusual


def test_the_history_is_read_back(tmp_path: Path) -> None:
    runs = usual(3)
    write_history(tmp_path / "history.csv", runs)
    assert read_history(tmp_path / "history.csv") == runs
    assert read_history(tmp_path / "none.csv") == []


def test_status_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    with watched(path, "1.0") as status:
        assert read_status(tmp_path)["state"] == RUNNING
        status.tell(patients={"made": 1})
        status.ended(0)
    stored = read_status(tmp_path)
    assert stored["state"] == FINISHED and stored["exit_code"] == 0 and stored["patients"] == {"made": 1}
    with pytest.raises(InputError), watched(path, "1.0"):
        raise InputError("a", "b", "c", "d")
    stored = read_status(tmp_path)
    assert stored["state"] == STOPPED and stored["exit_code"] is None and "patients" not in stored


@pytest.fixture
def quick() -> Generator[None]:
    with in_this_process(network=False):
        yield


def test_a_report_says_what_it_did(tmp_path: Path, quick: None) -> None:
    cohort = tiny_cohort(tmp_path)
    request = ReportRequest(
        cohort, "shipped", tmp_path / "report", jobs=1, prepared=tmp_path / "prepared", explanations=tmp_path / "maps"
    )
    make_report(request)
    stored = read_status(tmp_path / "report")
    assert stored["patients"] == {"made": 3, "new": 3, "failed": 0} and stored["exit_code"] == 0
    assert set(stored) <= set(FIELDS) and len(stored["model"]["fingerprint"]) == 64
    assert "too few earlier patients" in (tmp_path / "report/index.html").read_text()
    assert [run.patients for run in read_history(tmp_path / "report/history.csv")] == [3]
    make_report(request)
    assert read_status(tmp_path / "report")["patients"] == {"made": 3, "new": 0, "failed": 0}
    assert [run.patients for run in read_history(tmp_path / "report/history.csv")] == [3]
    assert "No new patient in this run" in (tmp_path / "report/index.html").read_text()
    assert json.dumps(stored).count("cirrhotic/") == 0


def test_the_documents_name_every_field() -> None:
    text = (Path(__file__).parents[1] / "docs" / "report_tables.md").read_text()
    assert not [name for name in FIELDS if f"| `{name}` |" not in text]
