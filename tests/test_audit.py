"""The audit on trees with planted faults: each is found, named, and weighed; a clean tree has none."""

import csv
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from published_tree import COMPLETE, Patient, Tree

from cirrnb.data.auditing import examination
from cirrnb.data.auditing.audit import audit
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputErrors
from cirrnb.data.mask_checks import better_place

SHAPE, SPACING = (36, 28, 9), (10.0, 9.0, 20.0)
AFFINE = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])  # LPS: x towards the left, y towards the back
AFFINE[:3, 3] = (175, 121, -80)


def phantom(seed):
    """A body with a liver on the patient's right and a noisy background, and the liver's mask."""
    x, y, z = np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij")
    body = ((x - 17.5) / 15) ** 2 + ((y - 13.5) / 11) ** 2 < 1
    liver = ((x - 11) / 5) ** 2 + ((y - 11) / 5) ** 2 + ((z - 4) / 3) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 5, SHAPE)
    image = np.abs(np.where(liver, 300, np.where(body, 500, 0)) + noise)
    return image.astype(np.int16), liver.astype(np.uint8)


def save(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)


PATIENTS = [
    Patient(9, {"T1W": ("train", True), "T2W": ("train", True)}, "mild", 61, "female"),
    Patient(10, {"T2W": ("test", True)}, "severe", 45, "male"),
    Patient(12, {"T1W": ("train", True)}, "moderate", 52, "male"),
    Patient(9, {"T1W": (None, True)}, None, 30, "male", healthy=True),
]


@pytest.fixture
def tree(tmp_path):
    """Four patients with five scans, all in order."""
    made = Tree(tmp_path / "cohort")
    made.write(PATIENTS)
    for order, patient in enumerate(PATIENTS):
        for sequence in patient.scans:
            image, mask = phantom(10 * order + (sequence == "T2W"))
            save(made.place(patient, sequence, "images"), image)
            save(made.place(patient, sequence, "masks"), mask)
    return made


def image(tree, patient=1, sequence="T2W"):
    return tree.place(PATIENTS[patient], sequence, "images")


def mask(tree, patient=1, sequence="T2W"):
    return tree.place(PATIENTS[patient], sequence, "masks")


def look(tree, severity="error"):
    found = audit(tree.root, workers=1, progress=False)
    assert found.has_errors == any(finding.severity == "error" for finding in found.findings)
    return [finding for finding in found.findings if finding.severity == severity]


def test_a_clean_tree_has_neither_errors_nor_warnings_beyond_its_size(tree):
    assert look(tree) == []
    assert [finding.check for finding in look(tree, "warning")] == ["published figures"]


def test_two_workers_find_what_one_finds(tree):
    one, two = (audit(tree.root, workers=number, progress=False) for number in (1, 2))
    pd.testing.assert_frame_equal(one.scans, two.scans)
    assert one.findings == two.findings


def test_facts_of_a_scan_are_those_it_was_made_with(tree):
    scans = audit(tree.root, workers=1, progress=False).scans.set_index("name")
    scan = scans.loc["cirrhotic/10 T2W"]
    values, liver = phantom(11)
    assert (scan["dtype"], scan.matrix, scan.slices, scan.orientation) == ("int16", "36 x 28", 9, "LPS")
    assert (scan.in_plane, scan.through_plane, scan.tilt) == pytest.approx((10, 20, 0))
    assert (scan.minimum, scan.maximum) == (values.min(), values.max())
    assert scan.liver_volume == pytest.approx(liver.sum() * 10 * 9 * 20 / 1000)
    assert scan.liver_slices == 5 and scan.liver_at == "" and scan.liver_outside == 0
    assert scan.liver_right == pytest.approx(65, abs=5) and scan.liver_front == pytest.approx(22, abs=5)


def test_the_order_and_direction_of_axes_do_not_change_what_is_found(tmp_path):
    values, liver = phantom(3)
    turned = nib.Nifti1Image(values, AFFINE), nib.Nifti1Image(liver, AFFINE)
    facts = []
    for name, codes in (("a", "LPS"), ("b", "SRA"), ("c", "AIL")):
        wanted = nib.orientations.axcodes2ornt(codes)
        for one, what in zip(turned, ("image", "mask"), strict=True):
            change = nib.orientations.ornt_transform(nib.io_orientation(one.affine), wanted)
            nib.save(one.as_reoriented(change), tmp_path / f"{name}_{what}.nii.gz")
        facts.append(examination.examine(tmp_path / f"{name}_image.nii.gz", tmp_path / f"{name}_mask.nii.gz"))
    assert [one["orientation"] for one in facts] == ["LPS", "SRA", "AIL"]
    for one in facts:
        assert one["slices"] == 9 and one["through_plane"] == 20 and one["liver_slices"] == 5
        for name in ("liver_volume", "liver_right", "liver_front", "liver_wider"):
            assert one[name] == pytest.approx(facts[0][name], abs=0.01)


# Planted faults.


def test_an_unreadable_scan_is_named_and_the_others_are_audited(tree):
    image(tree).write_bytes(image(tree).read_bytes()[:500])
    (finding,) = look(tree)
    assert finding.check == "unreadable scan" and finding.names == ("cirrhotic/10 T2W",)
    assert "Cirrhosis_T2_3D/test_images/10.nii.gz" in finding.text and str(tree.root) not in finding.text
    assert audit(tree.root, workers=1, progress=False).scans.problem.notna().sum() == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values * 0, "empty"),
        (lambda values: values + 2 * np.roll(values, 3, axis=0), "not binary"),
        (lambda values: values[:, :, :-1], "on another grid"),
    ],
)
def test_masks_that_are_wrong(tree, change, words):
    save(mask(tree), change(phantom(11)[1]))
    (finding,) = look(tree)
    assert finding.check == "masks" and words in finding.text and finding.names == ("cirrhotic/10 T2W",)


def test_a_mask_placed_elsewhere_in_the_patient(tree):
    moved = AFFINE.copy()
    moved[2, 3] += 20
    save(mask(tree), phantom(11)[1], moved)
    (finding,) = look(tree)
    assert "on another grid" in finding.text and "placed elsewhere" in finding.text


def test_an_unreadable_mask_and_many_bad_masks_are_one_finding(tree):
    mask(tree).write_bytes(b"no mask")
    assert "unreadable" in look(tree)[0].text
    for patient, sequence in ((0, "T1W"), (0, "T2W"), (1, "T2W")):
        save(mask(tree, patient, sequence), phantom(1)[1] * 0)
    (finding,) = look(tree)
    assert "3 masks that are empty" in finding.text and len(finding.names) == 3


@pytest.mark.parametrize(
    ("shift", "axis", "words"),
    [(-6, 0, "outside the body"), (7, 0, "mirrored"), (8, 1, "outside the body"), (14, 0, "shifted")],
)
def test_a_shifted_mask_is_a_warning(tree, shift, axis, words):
    save(mask(tree), np.roll(phantom(11)[1], shift, axis=axis))
    assert look(tree) == []
    finding = next(finding for finding in look(tree, "warning") if finding.check == "masks")
    assert words in finding.text and finding.names == ("cirrhotic/10 T2W",)


@pytest.mark.parametrize(("shift", "axis", "words"), [(3, 0, "30 mm to the right"), (3, 1, "27 mm to the front")])
def test_a_mask_shifted_within_the_body_is_a_warning_that_says_where_it_fits(tree, shift, axis, words):
    save(mask(tree), np.roll(phantom(11)[1], shift, axis=axis))
    (finding,) = (finding for finding in look(tree, "warning") if finding.check == "masks")
    assert finding.names == ("cirrhotic/10 T2W",) and "looks shifted" in finding.text and words in finding.text


def test_masks_too_small_to_tell_and_moves_into_the_air_are_left_alone():
    values, liver = phantom(0)
    body, steps = np.ones(SHAPE, bool), (10.0, 9.0, np.inf)
    assert better_place(values, body, liver & (np.arange(9) == 4), steps) == (1.0, (0, 0, 0))
    shifted = np.roll(liver, 3, axis=0) > 0
    wider, move = better_place(values, body, shifted, steps)
    assert wider > 5 and move == (-3, 0, 0)
    only_there = np.roll(liver, 3, axis=0) > 0  # elsewhere is air, where nothing can be said
    assert better_place(values, only_there, shifted, steps) == (1.0, (0, 0, 0))


def test_a_mirrored_mask_is_a_warning(tree):
    save(mask(tree), np.ascontiguousarray(phantom(11)[1][::-1]))
    finding = next(finding for finding in look(tree, "warning") if finding.check == "masks")
    assert "mirrored" in finding.text


def test_a_dark_liver_is_not_called_shifted(tree):
    values, liver = phantom(11)
    save(image(tree), np.where(liver == 1, 2, values).astype(np.int16))  # as full of iron as in real T2W scans
    assert [finding.check for finding in look(tree, "warning")] == ["published figures"]


def test_a_liver_cut_off_by_the_scan_is_a_note(tree):
    save(mask(tree), np.roll(phantom(11)[1], 2, axis=2))
    notes = [finding for finding in look(tree, "note") if finding.check == "masks"]
    assert len(notes) == 1 and "cut off" in notes[0].text


def test_the_same_voxels_under_two_names_are_found_whatever_the_file(tree):
    values = nib.load(image(tree, 0, "T1W")).get_fdata()
    save(image(tree, 1), values.astype(np.uint16))  # other type, other compression, other split and stage
    (finding,) = look(tree)
    assert finding.check == "same voxels" and set(finding.names) == {"cirrhotic/9 T1W", "cirrhotic/10 T2W"}
    assert "leak between test and train" in finding.text and "staged mild and severe" in finding.text


def test_a_constant_scan_is_told_once_and_not_called_a_copy(tree):
    for patient in (1, 2):
        save(image(tree, patient, "T2W" if patient == 1 else "T1W"), np.full(SHAPE, 7, np.int16))
    (finding,) = look(tree)
    assert finding.check == "values" and finding.names == ("cirrhotic/10 T2W", "cirrhotic/12 T1W")


def test_sequences_in_different_splits_are_a_warning(tree):
    for what in ("images", "masks"):
        place = tree.place(PATIENTS[0], "T2W", what)
        other = place.parent.parent / f"valid_{what}" / place.name
        other.parent.mkdir()
        shutil.move(place, other)
    finding = next(finding for finding in look(tree, "warning") if finding.check == "leak between splits")
    assert finding.names == ("cirrhotic/9",)


def test_oblique_and_oddly_stored_scans_are_notes(tree):
    angle = np.radians(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for what, values in zip((image, mask), phantom(11), strict=True):
        save(what(tree), values, turn @ AFFINE)
    for what, values in zip((image, mask), phantom(20), strict=True):
        save(what(tree, 2, "T1W"), values[::-1], AFFINE @ np.diag([-1, 1, 1, 1]))
    texts = {finding.text: finding.names for finding in look(tree, "note") if finding.check == "orientation"}
    assert any("oblique scans, up to 20" in text and names == ("cirrhotic/10 T2W",) for text, names in texts.items())
    assert any("RPS" in text and names == ("cirrhotic/12 T1W",) for text, names in texts.items())


def test_problems_of_reading_become_errors(tree):
    tree.table(COMPLETE, [["9", "61", "1", "1"], ["10", "45", "2", "7"], ["12", "52", "2", "2"]])
    (finding,) = look(tree)
    assert finding.check == "reading" and "'7'" in finding.text
    with pytest.raises(InputErrors):
        audit(tree.root / "none")


def test_a_cohort_without_masks_or_readable_scans_is_audited(tree):
    cohort = read_cohort(tree.root)
    for scan in cohort.scans:
        scan.mask.unlink()
    assert audit(tree.root, workers=1, progress=False).scans.liver_volume.isna().all()
    for scan in cohort.scans:
        scan.image.write_bytes(b"")
    found = audit(tree.root, workers=1, progress=False)
    assert sum(finding.check == "unreadable scan" for finding in found.findings) == 5 and found.report()


def test_an_own_table_is_audited_without_published_figures(tree):
    path = tree.root / "mine.csv"
    rows = [("a", "T1", image(tree, 0, "T1W"), "x"), ("b", "T2", image(tree), "y")]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("patient", "sequence", "image", "problem"), *rows])
    found = audit(path, workers=1, progress=False)
    assert "counts" not in found.tables and found.scans.problem.isna().all()
    assert not found.has_errors and "mine: 2 scans" in found.report()


def test_the_report_names_findings_and_says_simulated(tree):
    (tree.root / "SIMULATED.txt").touch()
    image(tree).write_bytes(b"")
    found = audit(tree.root, workers=1, progress=False)
    report = found.report()
    assert "(SIMULATED)" in report and "Errors: 1" in report and "cirrhotic/10 T2W" in report
    assert not any(finding.severity == "warning" for finding in found.findings)  # counts need not be the published ones
    assert len(found.findings_table) == len(found.findings)


def test_scans_that_a_check_refused_or_doubted_are_told_once_a_reason(tree):
    cohort = read_cohort(tree.root)
    told = {"checked": "refused", "check_reasons": "presence: no liver was found (Check the file.)"}
    first, second, third, *others = cohort.scans
    scans = (*(replace(scan, extra={**scan.extra, **told}) for scan in (first, second)), third, *others)
    doubtful = {"checked": "doubtful", "check_reasons": "side: upside down (Check the orientation.)"}
    scans = (*scans[:2], replace(third, extra={**third.extra, **doubtful}), *others)
    found = audit(replace(cohort, scans=scans), workers=1, progress=False)
    checks = {(one.severity, one.names): one.text for one in found.findings if one.check == "checks"}
    assert set(checks) == {("warning", (first.name, second.name)), ("note", (third.name,))}
    assert "no liver" in checks["warning", (first.name, second.name)]
