"""One rule for "this map beats its control maps": the verdict, the asterisk, the sentence and the page agree."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stand_in_worker import make_report

import cirrnb
from cirrnb.explanation.control_maps import CONTROLS, TESTED, advantages, beats_controls, best_control, map_verdict
from cirrnb.reports.formats import section
from cirrnb.reports.patient_report import MapTest
from cirrnb.view.attribution import faithfulness_table
from cirrnb.view.sentences import measures_html

NONE = dict.fromkeys(CONTROLS, np.nan)
BETTER, WORSE = "better than every control map", "no better than a control map"


def row(measure: str, value: float, **controls: float) -> dict[str, object]:
    better = "higher" if measure == "insertion" else "lower"
    return {"measure": measure, "better": better, "value": value, **NONE, **controls}


@pytest.mark.parametrize(
    ("measured", "wins", "best"),
    [
        (row("deletion", 0.1, random=0.5, shifted=0.2, edges=0.3), True, 0.2),
        (row("deletion", 0.2, random=0.5, shifted=0.2, edges=0.3), False, 0.2),  # a tie is not better
        (row("deletion", 0.4, random=0.5, shifted=0.2, edges=0.3), False, 0.2),
        (row("insertion", 0.4, random=0.5, shifted=0.2, edges=0.3), False, 0.5),
        (row("insertion", 0.6, random=0.5), True, 0.5),  # what has no value is not compared
        (row("slice deletion", 0.3, random=0.5, attention=0.2), False, 0.2),
        (row("deletion", np.nan, random=0.5), None, np.nan),
        (row("deletion", 0.5), None, np.nan),
    ],
)
def test_a_map_beats_its_controls_in_one_measure(measured, wins, best):
    assert beats_controls(measured) is wins
    assert best_control(measured) == pytest.approx(best, nan_ok=True)
    assert all((value > 0) == (wins is True) for value in advantages(measured).values()) or wins is False


LEVELS = (0.1, 0.5, 0.9, np.nan)


@pytest.mark.parametrize(("deletion", "insertion"), list(product(LEVELS, LEVELS)))
def test_all_who_judge_a_map_agree(deletion: float, insertion: float) -> None:
    controls = {"random": 0.5, "shifted": 0.3, "edges": 0.4}
    rows = [row("deletion", deletion, **controls), row("insertion", insertion, **controls)]
    verdict = map_verdict(rows)
    # The table of 05_faithfulness, the sentences of explorer and reports, and the page of a patient.
    asterisks = ["*" in cell for cell in faithfulness_table({"map": pd.DataFrame(rows)})["map"]]
    sentences = [measures_html([one]) for one in rows]
    ordered = measures_html([{**rows[0], "measure": "infidelity"}, {**rows[0], "measure": "deletion"}])
    assert ordered.index("Deletion") < ordered.index("do not decide") < ordered.index("Infidelity")
    passed = [] if verdict in ("neither", "undefined") else list(TESTED) if verdict == "both" else [verdict]
    if verdict != "undefined":
        assert [name for name, starred in zip(TESTED, asterisks, strict=True) if starred] == passed
        assert [name for name, words in zip(TESTED, sentences, strict=True) if BETTER in words] == passed
        assert [name for name, words in zip(TESTED, sentences, strict=True) if WORSE not in words] == passed
    else:
        assert np.isnan(deletion) or np.isnan(insertion)
    for starred, words, one in zip(asterisks, sentences, rows, strict=True):
        assert starred == (BETTER in words) == (beats_controls(one) is True)
    tests = tuple(MapTest(**one) for one in rows)
    page = section(replace(make_report("a/1"), map_tests=tests, verdict=verdict), "map_test")._repr_html_()
    assert page.count(BETTER) == sum(asterisks) and ("passes both" in page) == all(asterisks)


def test_no_other_module_compares_with_control_maps():
    """The names of the columns stand in one module: who compares asks it."""
    package = Path(cirrnb.__file__).parent
    others = [path for path in package.rglob("*.py") if path.name != "control_maps.py"]
    asked = ('"edges"', "'edges'")
    assert [path.name for path in others if any(name in path.read_text(encoding="utf-8") for name in asked)] == []
