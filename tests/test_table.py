"""A CSV table of people's own scans: spellings, paths, duplicates, and one message for each thing that is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputErrors
from cirrnb.data.layouts import fields
from cirrnb.data.sequences import parse_sequence


@pytest.fixture
def table(tmp_path):
    """Writes a table beside a few empty files: a.nii.gz to e.nii.gz in scans/, m.nii.gz as a mask."""
    (tmp_path / "scans").mkdir()
    for name in "abcdem":
        (tmp_path / "scans" / f"{name}.nii.gz").touch()

    def write(*lines, name="mine.csv", encoding="utf-8"):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding=encoding)
        return tmp_path / name

    return write


def refused(path):
    with pytest.raises(InputErrors) as caught:
        read_cohort(path)
    return caught.value.errors


def kept(path):
    with pytest.warns(UserWarning):
        return read_cohort(path, on_problem="skip")


HEADER = "patient,sequence,image,mask,stage,split,age,sex"


def test_every_column_is_understood(table, tmp_path):
    path = table(
        "Site, Patient ,SEQUENCE,image,mask,stage,split,age,sex,Scanner",
        "Rome,007,T1w,scans/a.nii.gz,scans/m.nii.gz,Moderate,val,61.5,F,Aera",
        f"Rome,007,t2,{tmp_path}/scans/b.nii.gz,,2.0,validation,NA,female,",
        "Oslo,Ödön,T2-weighted,scans/c.nii.gz,,,,,M,Skyra",
    )
    first, second, third = read_cohort(path).scans
    assert (first.patient, first.subject, first.sequence) == ("007", "mine/007", "T1W")
    assert first.image == tmp_path / "scans" / "a.nii.gz" and first.mask == tmp_path / "scans" / "m.nii.gz"
    assert (first.stage, first.split, first.age, first.sex) == ("moderate", "valid", 61.5, "female")
    assert dict(first.extra) == {"site": "Rome", "scanner": "Aera"}
    assert (second.sequence, second.stage, second.split, second.age) == ("T2W", "moderate", "valid", None)
    assert second.image == tmp_path / "scans" / "b.nii.gz" and second.extra["scanner"] is None
    assert (third.patient, third.stage, third.split, third.sex) == ("Ödön", None, None, "male")


def test_semicolons_byte_order_mark_and_empty_lines(table):
    path = table("patient;sequence;image", "", "1;T1;scans/a.nii.gz", ";;", encoding="utf-8-sig")
    (scan,) = read_cohort(path).scans
    assert scan.patient == "1"


def test_sources_of_ones_own(table):
    path = table("patient,sequence,image,source", "1,T1,scans/a.nii.gz,healthy", "1,T1,scans/b.nii.gz,")
    assert [scan.subject for scan in read_cohort(path).scans] == ["healthy/1", "mine/1"]


def test_simulated_stands_beside_the_table(table, tmp_path):
    path = table("patient,sequence,image", "1,T1,scans/a.nii.gz")
    assert not read_cohort(path).simulated and read_cohort(path).name == "mine"
    (tmp_path / "SIMULATED.txt").touch()
    assert read_cohort(path).simulated


@pytest.mark.parametrize("way", ["relative path", "absolute path", "linked file", "linked folder", "one of two"])
def test_simulated_scans_are_simulated_wherever_they_are_listed(way, tmp_path):
    drawn = tmp_path / "drawn" / "Cirrhosis_T1_3D" / "train_images"
    own = tmp_path / "own"
    drawn.mkdir(parents=True)
    own.mkdir()
    (drawn / "1.nii.gz").touch()
    (own / "2.nii.gz").touch()
    named = {"relative path": "../drawn/Cirrhosis_T1_3D/train_images/1.nii.gz", "linked folder": "linked/1.nii.gz"}
    if way == "linked file":
        (own / "here.nii.gz").symlink_to(drawn / "1.nii.gz")
    if way == "linked folder":
        (own / "linked").symlink_to(drawn)
    image = named.get(way, "here.nii.gz" if way == "linked file" else str(drawn / "1.nii.gz"))
    rows = ["patient,sequence,image,stage", f"1,T1W,{image},mild", *(["2,T1W,2.nii.gz,mild"] * (way == "one of two"))]
    (own / "scans.csv").write_text("\n".join(rows))
    assert not read_cohort(own).simulated
    (tmp_path / "drawn" / "SIMULATED.txt").touch()
    cohort = read_cohort(own)
    assert cohort.simulated
    assert any("own/1 T1W" in note or "scans/1 T1W" in note for note in cohort.notes) == (way == "one of two")


def test_stage_and_sex_of_one_row_hold_for_the_patient(table):
    path = table(HEADER, "1,T1,scans/a.nii.gz,,mild,,50,", "1,T2,scans/b.nii.gz,,,,51,m")
    assert [(scan.stage, scan.sex, scan.age) for scan in read_cohort(path).scans] == [
        ("mild", "male", 50),
        ("mild", "male", 51),
    ]


def test_a_missing_column_is_named_with_those_found(table):
    (error,) = refused(table("id,sequence,file", "1,T1,scans/a.nii.gz"))
    assert "id, sequence, file" in error.found and error.remedy == "Add or rename: patient, image."


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("../1,T1,scans/a.nii.gz,,,,,", "without control characters"),
        ("..,T1,scans/a.nii.gz,,,,,", "dot"),
        ("a\\b,T1,scans/a.nii.gz,,,,,", "without control characters"),
        ("x\x07,T1,scans/a.nii.gz,,,,,", "without control characters"),
        (f"{'x' * 10_000},T1,scans/a.nii.gz,,,,,", "64 characters"),
        (",T1,scans/a.nii.gz,,,,,", "an id"),
        ("1,T3,scans/a.nii.gz,,,,,", "T1W or T2W"),
        ("1,DWI,scans/a.nii.gz,,,,,", "T1W or T2W"),
        ("1,T1,,,,,,", "no image"),
        ("1,T1,scans/none.nii.gz,,,,,", "no such file as image"),
        ("1,T1,scans,,,,,", "a folder as image"),
        (f"1,T1,{'x' * 5000},,,,,", "impossible file name"),
        ("1,T1,scans/a.nii.gz,scans/none.nii.gz,,,,", "no such file as mask"),
        ("1,T1,scans/a.nii.gz,,4,,,", "mild, moderate, severe"),
        ("1,T1,scans/a.nii.gz,,healthy,,,", "mild, moderate, severe"),
        ("1,T1,scans/a.nii.gz,,,trian,,", "train, valid, test"),
        ("1,T1,scans/a.nii.gz,,,,130,", "0 to 120"),
        ("1,T1,scans/a.nii.gz,,,,,1", "female, f, male, m"),
        ("1,T1,scans/a.nii.gz,,,,,,,,oops", "as many as columns"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_and_the_rest_goes_on(table, row, words):
    path = table(HEADER, "9,T2,scans/e.nii.gz,,,,,", row)
    (error,) = refused(path)
    assert words in str(error) and "line 3" in error.where
    assert str(error).isprintable() and len(str(error)) < 700
    assert [scan.patient for scan in kept(path).scans] == ["9"]


def test_all_that_is_wrong_is_told_together(table):
    path = table(HEADER, "../1,T9,no,neither,4,x,200,y", "2,T1,scans/a.nii.gz,,,,,")
    assert len(refused(path)) == 8
    with pytest.raises(InputErrors, match="8 problems"):
        read_cohort(path)


def test_identical_rows_are_noted_and_others_are_a_problem(table):
    row = "1,T1,scans/a.nii.gz,,mild,,,"
    cohort = read_cohort(table(HEADER, row, row + " "))
    assert len(cohort) == 1 and any("lines 3" in note for note in cohort.notes)
    path = table(HEADER, row, "1,T1W,scans/b.nii.gz,,mild,,,", "2,T1,scans/c.nii.gz,,mild,,,")
    (error,) = refused(path)
    assert "lines 2, 3" in error.where and "the T1W scan of patient 1 2 times" in error.found
    assert [scan.patient for scan in kept(path).scans] == ["2"]


@pytest.mark.parametrize("other", ["scans/a.nii.gz", "scans/../scans/a.nii.gz"])
def test_one_file_under_two_names(table, other):
    path = table(HEADER, "1,T1,scans/a.nii.gz,,,train,,", f"2,T1,{other},,,test,,", "3,T1,scans/c.nii.gz,,,,,")
    (error,) = refused(path)
    assert "one file for mine/1 T1W, mine/2 T1W" in error.found
    assert [scan.patient for scan in kept(path).scans] == ["3"]


@pytest.mark.parametrize(("column", "first", "second"), [("stage", ",,1,,,", ",,2,,,"), ("sex", ",,,,,f", ",,,,,m")])
def test_a_patient_whose_rows_contradict(table, column, first, second):
    path = table(HEADER, f"1,T1,scans/a.nii.gz{first}", f"1,T2,scans/b.nii.gz{second}", "2,T1,scans/c.nii.gz,,,,,")
    (error,) = refused(path)
    assert f"patient 1 with the {column}s" in error.found and "lines 2, 3" in error.where
    assert [scan.patient for scan in kept(path).scans] == ["2"]


def test_an_accent_written_in_two_ways_is_one_patient(table):
    path = table(HEADER, "\u00d6,T1,scans/a.nii.gz,,,,,", "O\u0308,T2,scans/b.nii.gz,,,,,")
    assert len({scan.subject for scan in read_cohort(path).scans}) == 1


def test_without_a_stage_column_it_is_noted(table):
    cohort = read_cohort(table("patient,sequence,image,stgae", "1,T1,scans/a.nii.gz,mild"))
    assert "no column named stage: all patients are unstaged" in cohort.notes
    assert "further columns kept as they are: stgae" in cohort.notes


@pytest.mark.parametrize(
    "text", ["T1", "t1w", "T1W", "T1w", "T1-W", "T1_w", "T1wi", "T1 weighted", " T1 ", "T1-Weighted"]
)
def test_spellings_of_a_sequence(text):
    assert parse_sequence(text) == "T1W"
    assert parse_sequence(text.replace("1", "2")) == "T2W"


@given(st.text(max_size=90))
def test_an_id_is_either_refused_or_safe(text):
    try:
        name = fields.patient_id(text)
    except ValueError:
        return
    assert 1 <= len(name) <= fields.MAX_ID and name.isprintable()
    assert Path("/tmp/x").joinpath(name + ".html").resolve().parent == Path("/tmp/x").resolve()
    assert fields.patient_id(name) == name


@given(st.text(max_size=20))
def test_no_text_crashes_the_parsers(text):
    for parse in (fields.stage, fields.age, fields.sex, parse_sequence, fields.split, fields.whole_number_id):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)
