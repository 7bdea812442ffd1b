"""Tables and names as people's programs write them: what can be read in one way only is read, by every reader; the rest
is asked about."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from published_tree import COMPLETE, Patient, Tree

import cirrnb
from cirrnb.data.csv_file import read_csv, read_rows
from cirrnb.data.csv_text import plain_number
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.layouts import fields
from cirrnb.data.scan import Scan
from cirrnb.data.sequence_words import read_name
from cirrnb.data.sequences import parse_sequence, sequence_names
from cirrnb.data.stage_scale import stage_scale
from cirrnb.data.typed_paths import typed_path

SAVED = {
    "UTF-8": ("{}", "utf-8", ","),
    "UTF-8 with a mark": ("{}", "utf-8-sig", ";"),
    "sep=; of Excel": ("sep=;\r\n{}", "utf-8-sig", ";"),
    "sep=, quoted": ('"sep=,"\n{}', "utf-8", ","),
    "UTF-16, tabs (Unicode text of Excel)": ("{}", "utf-16", "\t"),
    "UTF-16 without a mark": ("{}", "utf-16-le", "\t"),
    "UTF-16, large end first": ("{}", "utf-16-be", "|"),
}
"""Text around the table, encoding, separator."""


def _save(path: Path, rows: list[list[str]], way: str) -> Path:
    around, encoding, separator = SAVED[way]
    lines = [separator.join(f'"{cell}"' if separator in cell else cell for cell in row) for row in rows]
    path.write_bytes(around.format("\r\n".join(lines) + "\r\n").encode(encoding))
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own" / "scans").mkdir(parents=True)
    for name in "abcd":
        (tmp_path / "own" / "scans" / f"{name}.nii.gz").touch()
    return tmp_path / "own"


def _scan(folder: Path, **cells: str) -> Scan:
    """What a table of one row gives."""
    row = {"patient": "A17", "sequence": "T1W", "image": "scans/a.nii.gz", **cells}
    _save(folder / "scans.csv", [list(row), list(row.values())], "UTF-8")
    (scan,) = cirrnb.read_cohort(folder).scans
    return scan


@pytest.mark.parametrize("way", SAVED)
@pytest.mark.parametrize("reader", ["scans", "published", "results"])
def test_a_table_is_read_however_it_was_saved(reader: str, way: str, own: Path) -> None:
    if reader == "scans":
        columns = ["Patient ID", "sequence", "image", "age", "stage"]
        _save(own / "scans.csv", [columns, ["Müller", "T1 post contrast", r"scans\a.nii.gz", "61,5", "2"]], way)
        (scan,) = cirrnb.read_cohort(own).scans
        assert (scan.patient, scan.sequence, scan.age, scan.stage) == ("Müller", "T1W", 61.5, "moderate")
        assert scan.image == own / "scans" / "a.nii.gz"
    elif reader == "published":
        tree = Tree(own)
        tree.write([Patient(9, {"T1W": ("train", True)}, "mild")])
        columns = ["Patient ID", "Age", "Gender", "Radiological Evaluation"]
        _save(own / "Metadata" / COMPLETE, [columns, ["9", "61,5", "1", "3"]], way)
        (scan,) = cirrnb.read_cohort(own).scans
        assert (scan.patient, scan.age, scan.stage) == ("9", 61.5, "severe")
    else:
        rows = [["subject", "score", "note"], ["a/007", "0,25", "Müller"], ["a/1", "", "3,5"]]
        table = read_csv(_save(own / "results.csv", rows, way), ["subject"], remedy="")
        assert table["subject"].tolist() == ["a/007", "a/1"] and table["note"][0] == "Müller"
        if SAVED[way][2] != ",":
            np.testing.assert_array_equal(table["score"], [0.25, np.nan])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("patient,sequence,image\nM\u00fcller,T1,a.nii.gz\n".encode("latin-1"), "Latin-1"),
        ("patient,sequence,image\nM\u00fcller \u2013 2,T1,a.nii.gz\n".encode("cp1252"), "Windows-1252"),
        (b"PK\x03\x04\x14\x00\x06\x00", "workbook"),
        ("patient,sequence".encode("utf-16")[:-1], "broken text"),
    ],
)  # fmt: skip
def test_what_a_file_is_instead_is_named(content: bytes, named: str, own: Path) -> None:
    (own / "scans.csv").write_bytes(content)
    with pytest.raises(InputErrors) as error:
        cirrnb.read_cohort(own)
    assert named in error.value.errors[0].found and "UTF-8" in error.value.errors[0].expected


def test_lines_are_counted_as_an_editor_counts_them(own: Path) -> None:
    path = _save(own / "scans.csv", [["patient", "sequence"], ["A", "T1"]], "sep=; of Excel")
    assert [row.line for row in read_rows(path, [])[1]] == [3]


@pytest.mark.parametrize(
    ("text", "years"),
    [
        *(("61.5", 61.5), ("61,5", 61.5), (" 61 ", 61), ("061Y", 61), ("61 years", 61), ("61,5 y", 61.5)),
        *(("#N/A", None), ("\uff16\uff11", 61)),
    ],
)
def test_ages(text: str, years: float | None, own: Path) -> None:
    assert fields.age(text) == years
    assert _scan(own, age=text).age == years


@pytest.mark.parametrize("text", ["60-65", ">60", "89+", "6_1", "1.061,5", "61,5,0", "inf", "734M", "1e3", "\u221e"])
def test_ages_that_are_asked_about(text: str) -> None:
    with pytest.raises(ValueError, match="0 to 120"):
        fields.age(text)


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        *(("MILD", "mild"), (" Moderate ", "moderate"), ("severe cirrhosis", "severe"), ("Stage 2", "moderate")),
        *(("1", "mild"), ("2.0", "moderate"), ("3,0", "severe"), ("2 = moderate", "moderate")),
        *(("Severe (3)", "severe"), ("Cirrhosis: mild", "mild"), ("n.a.", None), ("\u2013", None)),
    ],
)
def test_stages(text: str, stage: str | None, own: Path) -> None:
    assert fields.stage(text) == stage
    assert _scan(own, stage=text).stage == stage


@pytest.mark.parametrize(
    "text", ["0", "4", "1-2", "1 = severe", "Child A", "Child-Pugh B", "F4", "II", "mild-moderate"]
)
def test_stages_that_are_asked_about(text: str) -> None:
    with pytest.raises(ValueError, match="mild, moderate, severe"):
        fields.stage(text)


def test_stages_of_another_scale_keep_their_names() -> None:
    scale = stage_scale("F0, F1, stage 2")
    assert [fields.stage(text, scale) for text in ("f1", "Stage F0", "STAGE 2")] == ["F1", "F0", "stage 2"]
    with pytest.raises(ValueError, match="F0, F1, stage 2"):
        fields.stage("2", scale)


T1W = ["T1", "T1 post contrast", "t1_vibe", "T1-weighted", "LAVA", "eTHRIVE", "t1vibe_fs_tra_bh", "T1 +C"]
T1W += ["AX T1 fat sat portal venous", "T1 in phase", "t1_vibe_dixon_W", "T1  70 s", "T1 (arterial phase)", "T1W_FFE"]
T1W += ["T1 w/o contrast", "T1ce", "T1C", "sT1W_FFE", "T1 nach KM fettgesättigt", "t1_flash2d_mbh"]
T2W = ["t2_haste", "T2 SPIR", "T2W_TSE_SPAIR_RT", "T2 FRFSE fs", "ssfse", "T2 fat suppressed", "T2-weighted axial"]
ASKED = ["T1 map", "T2*", "t2_star", "T1rho", "T1 sub", "T2 VIBE", "T1 and T2", "T1 Dixon", "t1_vibe_dixon_F", "T1 fat"]
ASKED += ["T1 opposed phase", "ADC", "DWI b800", "T2 FLAIR", "T1 Siemens", "T3", "", "true fisp", "T2 MRCP"]
ASKED += ["T1 MIP", "R2*", "t1_fl2d_opp-in", "T1 in_out", "t1_vibe_opp", "T1 dual echo", "T1a"]


@pytest.mark.parametrize(("text", "sequence"), [(text, "T1W") for text in T1W] + [(text, "T2W") for text in T2W])
def test_sequences(text: str, sequence: str, own: Path) -> None:
    assert parse_sequence(text) == sequence
    assert _scan(own, sequence=text).sequence == sequence
    if "/" not in text:
        (own / "named" / "P 7").mkdir(parents=True)
        for name in (f"A17_{text}", f"{text}_A18", f"P 7/{text}"):
            (own / "named" / f"{name}.nii.gz").touch()
        found = cirrnb.read_cohort(own / "named").scans
        assert [scan.patient for scan in found] == ["A17", "A18", "P 7"]
        assert {scan.sequence for scan in found} == {sequence}


@pytest.mark.parametrize("text", ASKED)
def test_sequences_that_are_asked_about(text: str, own: Path) -> None:
    with pytest.raises(ValueError, match="T1W or T2W"):
        parse_sequence(text)
    (own / "named").mkdir()
    (own / "named" / f"A17_{text}.nii.gz").touch()
    with pytest.raises(InputErrors) as error:
        cirrnb.read_cohort(own / "named")
    assert len(error.value.errors) == 1 and "scans.csv" in error.value.errors[0].remedy


def test_sequences_that_somebody_names_come_first(own: Path) -> None:
    names = ("T1W", "T1 arterial", "DWI")
    assert [parse_sequence(text, names) for text in ("t1", "T1 ARTERIAL", "dwi")] == ["T1W", "T1 arterial", "DWI"]
    for text in ("T1 portal venous", "T2"):  # with phases apart, T1 alone does not say which
        with pytest.raises(ValueError, match="T1 arterial"):
            parse_sequence(text, names)


def test_names_of_sequences_are_those_of_their_cells(own: Path) -> None:
    assert sequence_names("t1, T2-weighted, DWI") == ("T1W", "T2W", "DWI")
    assert sequence_names(["T1 arterial", "T1 portal"]) == ("T1 arterial", "T1 portal")
    rows = [["patient", "sequence", "image"], ["1", "T1W", "scans/a.nii.gz"], ["1", "t2_haste", "scans/b.nii.gz"]]
    _save(own / "scans.csv", rows, "UTF-8")
    assert [scan.sequence for scan in cirrnb.read_cohort(own, sequences="T2, t1").scans] == ["T1W", "T2W"]
    with pytest.raises(InputError, match="one twice"):
        sequence_names("T1, T1W")


def test_initials_stay_patients_and_phases_do_not_become_any(own: Path) -> None:
    (own / "named").mkdir()
    for name in ("FB_T1W", "SE_T1W", "T2W_CE"):
        (own / "named" / f"{name}.nii.gz").touch()
    assert [scan.patient for scan in cirrnb.read_cohort(own / "named").scans] == ["CE", "FB", "SE"]
    for name in ("A17_pre_T1", "A17_post_T1"):
        (own / "named" / f"{name}.nii.gz").touch()
    with pytest.raises(InputErrors) as error:
        cirrnb.read_cohort(own / "named")
    assert error.value.errors[0].where == "patient A17 T1W"


COMPOSED = "Ödön"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
PATHS = {
    "separators of Windows": (r"scans\a.nii.gz", "scans/a.nii.gz"),
    "from here, as Windows writes it": (r".\scans\..\scans\a.nii.gz", "scans/a.nii.gz"),
    "a name with such a separator": (r"scans\x.nii.gz", r"scans\x.nii.gz"),
    "home": ("~/a.nii.gz", "home/a.nii.gz"),
    "home, as Windows writes it": (r"~\a.nii.gz", "home/a.nii.gz"),
    "composed here, decomposed there": (f"scans/{COMPOSED}.nii.gz", f"scans/{DECOMPOSED}.nii.gz"),
    "decomposed here, composed there": (f"{DECOMPOSED}/a.nii.gz", f"{COMPOSED}/a.nii.gz"),
    "in another case": ("Scans/A.NII.GZ", "scans/a.nii.gz"),
}  # fmt: skip


@pytest.mark.parametrize("column", ["image", "mask"])
@pytest.mark.parametrize("way", PATHS)
def test_paths_of_a_table(way: str, column: str, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(own / "home"))
    typed, lies = PATHS[way]
    (own / lies).parent.mkdir(parents=True, exist_ok=True)
    (own / lies).touch()
    found = getattr(_scan(own, **{"image": "scans/b.nii.gz", column: typed}), column)
    assert found.samefile(own / lies)


def test_paths_that_are_asked_about(own: Path) -> None:
    for name in ("x.nii.gz", "X.nii.gz"):
        (own / "scans" / name).touch()
    assert _scan(own, image="scans/X.nii.gz").image.name == "X.nii.gz"
    with pytest.raises(InputErrors) as error:
        _scan(own, image="scans/X.NII.gz")
    assert "X.nii.gz, x.nii.gz" in error.value.errors[0].found
    with pytest.raises(InputErrors) as error:
        _scan(own, image=r"C:\Users\me\a.nii.gz")
    assert "of this computer" in error.value.errors[0].remedy


def test_home_is_found_for_a_cohort(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _scan(own)
    monkeypatch.setenv("HOME", str(own.parent))
    assert cirrnb.read_cohort("~/own").name == "own" and typed_path("~/own") == own
    monkeypatch.chdir(own)
    Path("~").mkdir()
    assert typed_path("~") == Path("~"), "a folder that is called so is meant"


def test_one_accent_written_in_two_ways_is_one_patient(own: Path) -> None:
    (own / "named").mkdir()
    for name in (f"{COMPOSED}_T1W", f"{DECOMPOSED}_T2W"):
        (own / "named" / f"{name}.nii.gz").touch()
    assert len(cirrnb.read_cohort(own / "named").patients) == 1


def test_other_names_of_columns(own: Path) -> None:
    columns = ["Participant_ID", "sequence", "Image-Path", "Gender", "Age (years)"]
    _save(own / "scans.csv", [columns, ["1", "T2", "scans/a.nii.gz", "w", "50"]], "UTF-8")
    (scan,) = cirrnb.read_cohort(own).scans
    assert (scan.patient, scan.sex, scan.age, scan.extra) == ("1", "female", 50, {})
    assert _scan(own, sex="f", gender="m").extra == {"gender": "m"}, "the column of the right name counts"


@pytest.mark.parametrize("name", ["scans.csv", "Scans.CSV", "scans.tsv", "SCANS.TSV"])
def test_the_table_of_a_folder_is_found(name: str, own: Path) -> None:
    way = "UTF-8" if name.lower().endswith("csv") else "UTF-16, tabs (Unicode text of Excel)"
    (own / "B_T2W.nii.gz").touch()
    _save(own / name, [["patient", "sequence", "image"], ["A17", "T1", "scans/a.nii.gz"]], way)
    assert [scan.patient for scan in cirrnb.read_cohort(own).scans] == ["A17"]


@pytest.mark.parametrize("names", [["mine.tsv"], ["MINE.CSV"], ["Scans.csv", "scans.tsv"]])
def test_which_table_is_meant_is_asked(names: list[str], own: Path) -> None:
    """Rather than read patients and sequences from file names beside it."""
    (own / "B_T2W.nii.gz").touch()
    for name in names:
        _save(own / name, [["patient", "sequence", "image"], ["A17", "T1", "scans/a.nii.gz"]], "UTF-8")
    with pytest.raises(InputErrors) as error:
        cirrnb.read_cohort(own)
    assert names[0] in error.value.errors[0].remedy


LONG = ["1 ", "a", "t1", "t1 ", "- ", "op ", "9", "in-", "stage ", "1-", " (1", "fat ", "out of ", "sep="]


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("read", [fields.age, fields.stage, fields.sex, parse_sequence, plain_number, read_name])
def test_cells_made_to_be_slow_are_judged_at_once(read: Callable[[str], object], text: str) -> None:
    began = time.perf_counter()
    with suppress(ValueError):
        read(text * 30_000)
    assert time.perf_counter() - began < 2


def test_a_report_that_was_saved_again_is_the_same_table(own: Path) -> None:
    rows = [["subject", "mild", "predicted"], ["a/1", "0.25", "mild"], ["a/2", "0.5", "severe"]]
    first = read_csv(_save(own / "one.csv", rows, "UTF-8"), ["subject"], remedy="")
    rows = [[cell.replace(".", ",") for cell in row] for row in rows]
    second = read_csv(_save(own / "two.csv", rows, "sep=; of Excel"), ["subject"], remedy="")
    pd.testing.assert_frame_equal(first, second)
