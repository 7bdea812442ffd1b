"""What checks made of scans travels in tables to every answer: refused, doubtful, forced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cirrnb
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.grid import Grid
from cirrnb.data.mask_checks import edge_doubts
from cirrnb.data.scan import Scan
from cirrnb.data.status import (
    REASONS_COLUMN,
    REFUSED,
    STATUS_COLUMN,
    Reason,
    Refused,
    forced,
    reasons_of,
    reasons_text,
    status_of_scans,
)
from cirrnb.model.prediction import Prediction, predict_patient
from cirrnb.model.trained_model import load_model
from cirrnb.model.usable_scans import incomplete, usable
from cirrnb.view.sentences import brief_html

REASON = Reason("sequence", "declared as T1W; the signals are those of T2W", "Check which sequence this file is.")


def scan(sequence: str = "T1W", status: str | None = None, *reasons: Reason) -> Scan:
    return Scan("1", sequence, Path("x.nii"), extra={"checked": status, "check_reasons": reasons_text(reasons)})


def test_reasons_survive_a_table() -> None:
    both = (REASON, Reason("pair", "two people"))
    assert reasons_of(reasons_text(both)) == both
    assert reasons_of(None) == reasons_of("") == ()
    assert reasons_of("whatever somebody wrote")[0].text == "whatever somebody wrote"


def test_the_gravest_status_counts_and_a_pair_is_named_once() -> None:
    pair = Reason("pair", "two people", "Look.")
    status, reasons = status_of_scans([scan("T1W", "doubtful", pair), scan("T2W", "refused", REASON, pair)])
    assert status == "refused" and [reason.code for reason in reasons] == ["pair", "sequence"]
    assert reasons[1].text.startswith("T2W: ")
    assert status_of_scans([scan(), scan("T2W")]) == ("answered", ())
    assert status_of_scans([scan("T1W", "nonsense")])[0] == "answered"


def test_a_refusal_that_is_overruled_stays_doubtful_and_says_so() -> None:
    once = forced(scan("T1W", "refused", REASON))
    assert once.extra["checked"] == "doubtful"
    assert [reason.code for reason in reasons_of(once.extra["check_reasons"])] == ["sequence", "forced"]
    assert forced(once) == once and forced(scan()) == scan()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    folder = tmp_path_factory.mktemp("status")
    cohort = cirrnb.simulate_cohort(folder / "cohort", patients=3, seed=12, workers=1, progress=False)
    return cirrnb.prepare(cohort, folder / "prepared", load_model("shipped").preparation, workers=1, progress=False)


def marked(prepared: PreparedCohort, subject: str, *, force: bool = False) -> PreparedCohort:
    scans = []
    for one in prepared.scans:
        own = one.scan
        if own.subject == subject and own.sequence == "T1W":
            own = replace(own, extra={**own.extra, "checked": "refused", "check_reasons": reasons_text([REASON])})
        scans.append(replace(one, scan=forced(own) if force else own))
    return replace(prepared, scans=tuple(scans))


def test_a_refused_patient_gets_no_stage_and_the_others_are_staged(prepared: PreparedCohort) -> None:
    subject = prepared.bags()[0].subject
    table = cirrnb.predict("shipped", marked(prepared, subject)).set_index("subject")
    assert table.loc[subject, "status"] == "refused" and pd.isna(table.loc[subject, "predicted"])
    assert "sequence" in table.loc[subject, "reasons"] and pd.isna(table.loc[subject, "severe"])
    others = table.drop(subject)
    assert others["predicted"].notna().all() and set(others["status"]) <= {"answered", "doubtful"}
    with pytest.raises(Refused):
        predict_patient("shipped", marked(prepared, subject).bags()[0])


@pytest.mark.parametrize(("spacing", "told"), [((3, 3, 8), None), ((3, 12, 3), "coronally"), ((9, 3, 3), "sagittally")])
def test_a_scan_that_was_not_acquired_axially_is_told(
    prepared: PreparedCohort, spacing: tuple[int, int, int], told: str | None
) -> None:
    (name, scan), *_ = prepared.bags()[0].scans.items()
    reasons = list(incomplete({name: replace(scan, source_grid=Grid((7, 8, 9), np.diag([*spacing, 1.0])))}))
    assert [reason.code for reason in reasons if reason.code != "part"] == ["plane"] * (told is not None)
    assert all(str(told) in reason.text and name in reason.text for reason in reasons if reason.code == "plane")


def test_a_liver_that_is_cut_off_is_a_doubt_once(prepared: PreparedCohort) -> None:
    (name, scan), *_ = prepared.bags()[0].scans.items()
    mask = np.ones((7, 8, 9), dtype=bool)
    mask[:, [0, -1]] = mask[[0, -1]] = False
    (doubt,) = edge_doubts(mask, Grid(mask.shape, np.diag([-3.0, -3.0, 8.0, 1.0])))
    assert "lowest" in doubt and "highest" in doubt
    cut = replace(scan, measured={**scan.measured, "liver_cut_off": ["lowest slice"]}, notes=())
    cut = replace(cut, scan=replace(cut.scan, extra={**cut.scan.extra, "mask_doubts": f"it is small; {doubt}"}))
    _, notes = usable(load_model("shipped"), Bag({name: cut}))
    assert not any("cut off" in note for note in notes) and any("it is small" in note for note in notes)
    (reason,) = [one for one in incomplete({name: cut}) if one.code == "part"]
    assert "cut off" in reason.text


def test_sides_are_not_judged_of_a_scan_without_a_liver() -> None:
    texts = "presence: no liver was found (Look.) | side: upside down (Turn it.)"
    scan = Scan("1", "T1W", Path("a.nii"), extra={STATUS_COLUMN: REFUSED, REASONS_COLUMN: texts})
    other = replace(scan, sequence="T2W", extra={STATUS_COLUMN: REFUSED, REASONS_COLUMN: "side: upside down"})
    status, reasons = status_of_scans([scan, other])
    assert status == REFUSED and [reason.text[:3] for reason in reasons] == ["T1W", "T2W"]
    assert [reason.code for reason in reasons] == ["presence", "side"]


def test_scans_that_a_check_doubts_are_listed(prepared: PreparedCohort) -> None:
    subject = prepared.bags()[0].subject
    assert list(prepared.doubted().columns) == ["subject", "sequence", "status", "reasons"] and prepared.doubted().empty
    (row,) = marked(prepared, subject).doubted().to_dict("records")
    assert (row["subject"], row["sequence"], row["status"]) == (subject, "T1W", "refused")
    assert row["reasons"] == f"sequence: T1W: {REASON.text} ({REASON.remedy})"


def test_force_answers_and_stays_doubtful(prepared: PreparedCohort) -> None:
    subject = prepared.bags()[0].subject
    answer = predict_patient("shipped", marked(prepared, subject, force=True).bags()[0])
    plain = predict_patient("shipped", prepared.bags()[0])
    assert answer.status == "doubtful" and answer.probabilities == plain.probabilities
    assert {"sequence", "forced"} <= {reason.code for reason in answer.reasons}


def test_a_cohort_is_prepared_as_the_model_needs_it(
    prepared: PreparedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = prepared.scans[0].scan.image
    cohort = cirrnb.read_cohort(next(folder for folder in image.parents if (folder / "latent.csv").is_file()))
    table = cirrnb.predict("shipped", cohort)
    pd.testing.assert_frame_equal(table, cirrnb.predict("shipped", prepared))
    assert (tmp_path / "prepared" / cohort.name).is_dir()


@pytest.mark.parametrize("status", ["answered", "doubtful"])
def test_the_caveat_stands_where_the_stage_stands(status: str) -> None:
    prediction = Prediction(
        subject="1",
        probabilities={"mild": 0.2, "moderate": 0.3, "severe": 0.5},
        predicted="severe",
        prediction_set=("severe",),
        slice_weights={},
        sequence_weights={"T2W": 1.0},
        notes=(),
        model="m",
        simulated=True,
        status=status,
    )
    assert ("doubtful" in brief_html(prediction)) is (status == "doubtful")
