"""The published layout, quirk by quirk: what is written is what is read, and what is wrong is told at once."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_tree import COMPLETE, Patient, Quirks, Tree

from cirrnb.data import splits
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputErrors
from cirrnb.data.scan import SPLITS
from cirrnb.data.stage_scale import CIRRHOSIS


def refused(root):
    with pytest.raises(InputErrors) as caught:
        read_cohort(root)
    return caught.value.errors


def kept(root):
    """The cohort without what is wrong."""
    with pytest.warns(UserWarning):
        return read_cohort(root, on_problem="skip")


def two(**changes):
    """Patient 9 with both sequences, patient 10 with T2W alone, healthy 9."""
    return [
        Patient(9, {"T1W": ("train", True), "T2W": ("train", True)}, "mild", 61, "female", **changes),
        Patient(10, {"T2W": ("test", True)}, "severe", 45, "male"),
        Patient(9, {"T1W": (None, True)}, None, 30, "male", healthy=True),
    ]


quirks = st.builds(
    Quirks,
    nested=st.frozensets(st.sampled_from(["Cirrhosis_T1_3D", "Cirrhosis_T2_3D", "Healthy_subjects"])),
    metadata=st.sampled_from(["", "Metadata", "Metadata/Metadata"]),
    mark=st.sampled_from(["", "\ufeff"]),
    padding=st.sampled_from(["", " ", "  "]),
    decimals=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    separate=st.booleans(),
)
scans = st.dictionaries(st.sampled_from(["T1W", "T2W"]), st.tuples(st.sampled_from(SPLITS), st.booleans()), min_size=1)
patients = st.lists(
    st.builds(
        Patient,
        id=st.integers(1, 700),
        scans=scans,
        stage=st.sampled_from([*CIRRHOSIS, None]),
        age=st.none() | st.integers(20, 92),
        sex=st.sampled_from(["female", "male", None]),
        healthy=st.booleans(),
        listed=st.booleans(),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda patient: (patient.id, patient.healthy),
)


@given(patients, quirks)
def test_what_is_written_is_read_back(tmp_path_factory, patients, quirks):
    tree = Tree(tmp_path_factory.mktemp("tree"), quirks)
    tree.write(patients)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cohort = read_cohort(tree.root)
    assert set(cohort.scans) == tree.expected(patients)
    assert len(cohort) == sum(len(patient.scans) for patient in patients)
    assert not cohort.problems and not cohort.simulated
    order = [(scan.source, int(scan.patient), scan.sequence) for scan in cohort.scans]
    assert order == sorted(order)


def test_healthy_ids_that_repeat_cirrhotic_ones_are_other_people(tmp_path):
    Tree(tmp_path).write(two())
    cohort = read_cohort(tmp_path)
    assert [scan.subject for scan in cohort.scans] == ["cirrhotic/9"] * 2 + ["cirrhotic/10", "healthy/9"]
    assert [scan.age for scan in cohort.scans] == [61, 61, 45, 30]


def test_the_published_conflict_of_splits_is_read_and_left_to_the_split(tmp_path):
    Tree(tmp_path).write([Patient(56, {"T1W": ("test", True), "T2W": ("valid", True)}, "mild")])
    cohort = read_cohort(tmp_path)
    assert [scan.split for scan in cohort.scans] == ["test", "valid"]
    with pytest.raises(InputErrors, match="cirrhotic/56"):
        splits.official(cohort)


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    tree = Tree(tmp_path)
    tree.write(two())
    folder = tree.place(two()[1], "T2W", "images").parent
    for name in ("._10.nii.gz", ".DS_Store", "Thumbs.db"):
        (folder / name).touch()
    (tmp_path / "Metadata" / "._T1_age_gender_evaluation.csv").write_bytes(b"\0\x05\x16\x07")
    cohort = read_cohort(tmp_path)
    assert len(cohort) == 4
    assert any("Thumbs.db" in note for note in cohort.notes)


def test_without_tables_or_masks_scans_are_kept_and_noted(tmp_path):
    Tree(tmp_path).write(
        [Patient(9, {"T1W": ("train", False)}, listed=False), Patient(4, {"T2W": ("test", False)}, listed=False)]
    )
    cohort = read_cohort(tmp_path)
    assert [(scan.stage, scan.mask, scan.age) for scan in cohort.scans] == [(None, None, None)] * 2
    assert any("cirrhotic patients, no table: 2 (4, 9)" in note for note in cohort.notes)
    assert any("without a liver mask: 2" in note for note in cohort.notes)


def test_a_patient_without_stage_and_rows_without_scan_are_noted(tmp_path):
    tree = Tree(tmp_path)
    tree.write([Patient(9, {"T1W": ("train", True)}, None, 50, "male")])
    tree.table("T2_age_gender_evaluation.csv", [["77", "60", "1", "3"]])
    notes = " ".join(read_cohort(tmp_path).notes)
    assert "names no stage: 1 (9)" in notes and "without a scan here: 1 (77)" in notes


def test_simulated_is_said_and_the_name_is_the_folder_alone(tmp_path):
    Tree(tmp_path / "my cohort").write(two())
    (tmp_path / "my cohort" / "SIMULATED.txt").touch()
    cohort = read_cohort(str(tmp_path / "my cohort"))
    assert cohort.simulated and cohort.name == "my cohort"


def test_unlisted_in_one_table_and_staged_in_another(tmp_path):
    tree = Tree(tmp_path)
    tree.write([Patient(101, {"T1W": ("train", True)}, None, None, None)])
    tree.table("T1_age_gender_evaluation.csv", [["101", "66", "2", "3"]])
    (scan,) = read_cohort(tmp_path).scans
    assert (scan.stage, scan.age, scan.sex) == ("severe", 66, "male")


def test_ages_that_differ_between_tables_are_noted_and_the_complete_table_is_believed(tmp_path):
    tree = Tree(tmp_path)
    tree.write(two())
    tree.table("T1_age_gender_evaluation.csv", [["9", "99", "1", "1"]])
    cohort = read_cohort(tmp_path)
    assert cohort.scans[0].age == 61
    assert "the tables differ in the age of patients 9; the first is taken" in cohort.notes


def test_further_columns_are_kept(tmp_path):
    tree = Tree(tmp_path)
    tree.write(two())
    (tmp_path / "Metadata" / COMPLETE).write_text(
        "Patient ID,Age,Gender,Radiological Evaluation, Scanner \n9,61,1,1,Aera\n10,45,2,3,\n"
    )
    table = read_cohort(tmp_path).table.set_index("patient")
    assert list(table.loc["9", "scanner"])[:2] == ["Aera", "Aera"]


# What is wrong: one clear message each, and the rest of the cohort goes on.


def test_stage_four_is_told_with_file_line_and_patient(tmp_path):
    tree = Tree(tmp_path)
    tree.write(two()[:2])
    tree.table(COMPLETE, [["9", "61", "1", "4"], ["10", "45", "2", "3"]])
    (error,) = refused(tmp_path)
    assert "line 2, patient '9'" in error.where and COMPLETE in error.where and "'4'" in error.found
    cohort = kept(tmp_path)
    assert [scan.patient for scan in cohort.scans] == ["10"] and cohort.problems[0].where == error.where


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["9", "-3", "1", "1"], "0 to 120"),
        (["9", "abc", "1", "1"], "0 to 120"),
        (["9", "61", "3", "1"], "1, 2"),
        (["9", "61", "1", "2.5"], "mild, moderate, severe"),
        (["../9", "61", "1", "1"], "without control characters"),
        (["9\x1b[2J", "61", "1", "1"], "without control characters"),
        (["9" * 65, "61", "1", "1"], "64 characters"),
        (["", "61", "1", "1"], "an id"),
        (["9", "61", "1", "1", "oops"], "as many as columns"),
    ],
)
def test_cells_that_cannot_be_understood(tmp_path, cells, words):
    tree = Tree(tmp_path)
    tree.write([Patient(10, {"T2W": ("test", True)}, "severe", 45, "male")])
    tree.table("T1_age_gender_evaluation.csv", [cells])
    (error,) = refused(tmp_path)
    assert words in str(error) and "\x1b" not in str(error) and len(str(error)) < 600
    assert [scan.stage for scan in kept(tmp_path).scans] == ["severe"]


def test_everything_that_is_wrong_is_told_together(tmp_path):
    tree = Tree(tmp_path)
    tree.write(two())
    tree.table(COMPLETE, [["9", "300", "7", "5"], ["10", "45", "2", "3"], ["x/y", "1", "1", "1"]])
    tree.place(two()[1], "T2W", "masks").with_name("11.nii.gz").touch()
    assert len(refused(tmp_path)) == 5


def test_rows_that_repeat_are_noted_and_rows_that_contradict_are_told(tmp_path):
    tree = Tree(tmp_path)
    tree.write(two())
    rows = [["9", "61", "1", "1"], ["10", "45", "2", "3"]]
    tree.table(COMPLETE, [*rows, ["9.0", "61", "1", "1"]])
    assert any("repeat an earlier one, word for word: patients 9" in note for note in read_cohort(tmp_path).notes)
    tree.table(COMPLETE, [*rows, ["9", "62", "1", "1"]])
    (error,) = refused(tmp_path)
    assert "line 4" in error.where and "otherwise than in line 2" in error.found
    tree.table(COMPLETE, [*rows, ["9", "61", "1", "2"]])
    (error,) = refused(tmp_path)
    assert "different stages: mild" in error.found and "moderate" in error.found
    assert [scan.subject for scan in kept(tmp_path).scans] == ["cirrhotic/10", "healthy/9"]


def test_stages_that_contradict_between_tables(tmp_path):
    tree = Tree(tmp_path)
    tree.write(two())
    tree.table("T2_age_gender_evaluation.csv", [["9", "61", "1", "3"]])
    (error,) = refused(tmp_path)
    assert "patient 9" in error.where and COMPLETE in error.found and "T2_age" in error.found


@pytest.mark.parametrize("other", ["test_images/10.nii.gz", "train_images/010.nii.gz", "train_images/10.nii"])
def test_one_scan_in_two_places(tmp_path, other):
    tree = Tree(tmp_path)
    tree.write([*two(), Patient(12, {"T2W": ("train", True)}, "mild")])
    tree.write([Patient(10, {"T2W": ("train", True)}, "severe", 45, "male"), *two()[:1]])
    first = tmp_path / "Cirrhosis_T2_3D" / "test_images" / "10.nii.gz"
    for path in (first, first.parent.parent / "test_masks" / "10.nii.gz"):
        path.unlink()
    (tmp_path / "Cirrhosis_T2_3D" / other).touch()
    (error,) = refused(tmp_path)
    assert "patient 10 T2W" in error.where and "2 files" in error.found
    assert "10" not in [scan.patient for scan in kept(tmp_path).scans]


def test_a_mask_without_its_scan(tmp_path):
    tree = Tree(tmp_path)
    tree.write(two())
    tree.place(two()[1], "T2W", "images").unlink()
    (error,) = refused(tmp_path)
    assert "a mask without its scan" in error.found and "10.nii.gz" in error.where
    assert len(kept(tmp_path)) == 3


def test_two_masks_of_one_scan(tmp_path):
    tree = Tree(tmp_path)
    tree.write(two())
    mask = tree.place(two()[1], "T2W", "masks")
    mask.with_name("10.nii").touch()
    (error,) = refused(tmp_path)
    assert "patient 10 T2W mask" in error.where
    assert next(scan for scan in kept(tmp_path).scans if scan.patient == "10").mask is None


@pytest.mark.parametrize("name", ["9\n.nii.gz", "a:b.nii.gz", "x" * 70 + ".nii.gz", "\u202e9.nii.gz"])
def test_file_names_that_are_no_ids(tmp_path, name):
    tree = Tree(tmp_path)
    tree.write(two())
    (tree.place(two()[1], "T2W", "images").parent / name).touch()
    (error,) = refused(tmp_path)
    assert "a file named" in error.found and "\n" not in str(error) and "\u202e" not in str(error)
    assert len(kept(tmp_path)) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty table"),
        (b"Patient ID,Age\n9,61\n", "radiological evaluation"),
        (b"Patient ID,Age,Gender,Radiological Evaluation\n9,61,1,\xff\n", "not UTF-8"),
        (b"Patient ID,Age,Age,Radiological Evaluation\n", "age twice"),
        (b"Patient ID,Age\0,Gender,Radiological Evaluation\n", "null bytes"),
        (b'Patient ID,Age,Gender,Radiological Evaluation\n"9"x,61,1,1\n', "not CSV"),
    ],
)
def test_tables_that_are_no_tables(tmp_path, content, words):
    tree = Tree(tmp_path)
    tree.write(two())
    (tmp_path / "Metadata" / COMPLETE).write_bytes(content)
    (error,) = refused(tmp_path)
    assert words in str(error).lower() or words in str(error)
    assert [scan.stage for scan in kept(tmp_path).scans] == [None] * 4


def test_roots_that_are_no_cohort(tmp_path):
    assert "no such file or folder" in refused(tmp_path / "none")[0].found
    assert "holds nothing" in refused(tmp_path)[0].found
    Tree(tmp_path).write(two())
    assert f"folder above it: {tmp_path}" in refused(tmp_path / "Cirrhosis_T2_3D")[0].remedy
    (tmp_path / "scans.xlsx").touch()
    assert "Save the table as CSV" in refused(tmp_path / "scans.xlsx")[0].remedy
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.csv").touch()
    assert "mine.csv" in refused(tmp_path / "other")[0].remedy
    (tmp_path / "bare" / "Cirrhosis_T1_3D" / "train_images").mkdir(parents=True)
    assert "no scan" in refused(tmp_path / "bare")[0].found


def test_skip_with_nothing_left_raises_all_the_same(tmp_path):
    tree = Tree(tmp_path)
    tree.write([Patient(9, {"T1W": ("train", True)}, "mild")])
    tree.table(COMPLETE, [["9", "61", "1", "4"]])
    with pytest.raises(InputErrors):
        read_cohort(tmp_path, on_problem="skip")
    with pytest.raises(ValueError, match="on_problem"):
        read_cohort(tmp_path, on_problem="ignore")


def test_published_2d_slices_are_refused_with_the_3d_archives_named(tmp_path):
    (tmp_path / "Cirrhosis_T2_2D" / "train" / "7" / "images").mkdir(parents=True)
    (tmp_path / "Cirrhosis_T2_2D" / "train" / "7" / "images" / "1.png").touch()
    with pytest.raises(InputErrors, match="Cirrhosis_T2_3D"):
        read_cohort(tmp_path)
