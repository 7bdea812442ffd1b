"""What a DICOM series is: phases, parts of a Dixon acquisition, reformats, and what is computed from images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_phantoms import SLICES, T1, T2, pattern, write_series

import cirrnb
from cirrnb.data.dicom.importing import import_dicom, list_series
from cirrnb.data.dicom.series_kinds import Verdict
from cirrnb.data.errors import InputError
from cirrnb.run.dicom import listing

DYNAMIC = {**T1, "SeriesDescription": "t1_vibe_fs_tra_dyn", "SeriesInstanceUID": "1.2.3.77"}


def _verdict(folder: Path, tags: dict[str, Any], **more: Any) -> Verdict:
    write_series(folder, tags, **more)
    (judged,) = list_series(folder).judged
    return judged.verdict


def _dynamic(folder: Path, times: Sequence[str], name: str = "ContentTime", **more: Any) -> None:
    """One series with a phase for each time, whose voxels are 1000 larger from phase to phase."""
    for number, time in enumerate(times):
        write_series(folder / str(number), {**DYNAMIC, name: time, **more}, voxels=pattern() + 1000 * number)


def _retimed(folder: Path, name: str, step: float) -> None:
    """Give each slice a time of its own, `step` s after the one below it."""
    for path in (one for one in folder.rglob("IM*") if one.is_file()):
        data = pydicom.dcmread(path)
        setattr(data, name, f"{float(getattr(data, name)) + step * (data.InstanceNumber - 1):013.6f}")
        data.save_as(path)


# ---------------------------------------------------------------------- phases


@pytest.mark.parametrize("step", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("ContentTime", ["101500.000000", "101530.000000", "101610.000000"]),
        ("AcquisitionTime", ["101610.000000", "101530.000000", "101500.000000"]),
        ("TriggerTime", [0.0, 30000.0, 70000.0]),
    ],
)
def test_phases_are_told_apart_by_time_and_offered_with_their_delay(
    name: str, times: list, step: float, tmp_path: Path
) -> None:
    _dynamic(tmp_path / "dicom", times, name)
    if step and name != "TriggerTime":
        _retimed(tmp_path / "dicom", name, step)
    looked = list_series(tmp_path / "dicom")
    assert [one.series.part for one in looked.judged] == ["phase 1", "phase 2", "phase 3"]
    assert [one.series.delay for one in looked.judged] == [0, 30, 70]
    assert [one.series.slices for one in looked.judged] == [SLICES] * 3
    lines = listing(looked)
    assert "30 s after the first" in lines[2] and "70 s after the first" in lines[3]
    with pytest.raises(InputError, match=r"3 series that may be it.*30 s after the first"):
        import_dicom(looked, tmp_path / "own")
    asked: list[str] = []
    made = import_dicom(
        looked, tmp_path / "own", ask=lambda _, open_ones: asked.extend(o.summary for o in open_ones) or 3
    )
    assert len(asked) == 3 and "70 s after the first" in asked[2]
    image = np.asarray(nib.load(tmp_path / "own/case-1/T1W.nii.gz").dataobj)
    order = [0, 1, 2] if times == sorted(times) else [2, 1, 0]
    assert image.min() == 1000 * order[2] and made.scans["T1W"][0].number == 3
    assert "s after" not in (tmp_path / "own/scans.csv").read_text()


def test_phases_that_have_numbers_get_their_delay_too(tmp_path: Path) -> None:
    for number, time in ((1, "101500"), (2, "101530")):
        tags = {**DYNAMIC, "TemporalPositionIdentifier": number, "AcquisitionTime": time}
        write_series(tmp_path / str(number), tags)
    judged = list_series(tmp_path).judged
    assert [one.series.part for one in judged] == ["phase 1", "phase 2"]
    assert [one.series.delay for one in judged] == [0, 30] and "30 s after the first" in judged[1].series.description
    assert judged[1].series.name == "t1_vibe_fs_tra_dyn"


@pytest.mark.parametrize(
    "times",
    [["101500.000000"] * 2, ["101500.000000", ""], ["101500.000000", "101503.000000"]],
    ids=["no time between them", "no time", "slices of both in turn"],
)
def test_volumes_that_time_does_not_tell_apart_are_refused(times: list[str], tmp_path: Path) -> None:
    _dynamic(tmp_path, times)
    if times[-1] == "101503.000000":
        _retimed(tmp_path, "ContentTime", 1.0)  # ten seconds from the lowest to the highest slice
    (judged,) = list_series(tmp_path).judged
    assert judged.verdict.never and "several pictures at one place" in judged.verdict.why


def test_a_phase_that_lacks_a_slice_is_not_filled_from_another(tmp_path: Path) -> None:
    write_series(tmp_path / "a", {**DYNAMIC, "ContentTime": "101500"})
    write_series(tmp_path / "b", {**DYNAMIC, "ContentTime": "101530"}, leave_out=[4])
    assert all(one.verdict.never for one in list_series(tmp_path).judged)


def test_a_number_of_its_own_for_each_picture_tells_no_phases_apart(tmp_path: Path) -> None:
    _dynamic(tmp_path, ["101500", "101530"])
    for number, path in enumerate(sorted(one for one in tmp_path.rglob("IM*") if one.is_file())):
        data = pydicom.dcmread(path)
        data.AcquisitionNumber = number
        data.save_as(path)
    assert [one.series.part for one in list_series(tmp_path).judged] == ["phase 1", "phase 2"]


def test_phases_in_series_of_their_own_are_offered_with_their_delay(tmp_path: Path) -> None:
    for number, time in enumerate(("101500", "101525", "101610"), 1):
        words = f"t1_vibe_{number}"
        write_series(tmp_path / "dicom", T1, number=number, SeriesDescription=words, AcquisitionTime=time)
    looked = list_series(tmp_path / "dicom")
    assert [one.moment for one in looked.judged] == ["", "25 s after series 1", "70 s after series 1"]
    with pytest.raises(InputError, match="70 s after series 1"):
        import_dicom(looked, tmp_path / "own")


def test_the_portal_venous_phase_is_suggested_by_its_delay_after_the_agent(tmp_path: Path) -> None:
    """Only where the files say when the agent was injected: after the first volume says nothing of the injection."""
    injected = {"ContrastBolusStartTime": "101500", "ContrastBolusAgent": "Gadobutrol"}
    write_series(tmp_path / "dicom" / "t2", T2, number=9)
    _dynamic(tmp_path / "dicom", ["101430", "101525", "101610"], **injected)
    looked = list_series(tmp_path / "dicom")
    assert [one.moment for one in looked.judged][2] == "70 s after the contrast agent"
    made = import_dicom(looked, tmp_path / "own")
    assert made.scans["T1W"][0].number == 3 and "portal venous" in made.scans["T1W"][1]


# ---------------------------------------------------------------------- what is computed


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        *(("PE1", "map of enhancement"), ("PE2", "map of enhancement"), ("SER", "map of enhancement")),
        *(("SUB", "subtraction"), ("SUBTRACTION", "subtraction"), ("WASH IN", "enhancement"), ("TTP", "enhancement")),
        *(("T1_MAP", "T1 map"), ("T1 MAP", "T1 map"), ("FF", "fat-fraction"), ("R2_STAR", "R2* map")),
        *(("KTRANS", "perfusion"), ("MIP", "projection"), ("P", "phase image"), ("ADC", "ADC")),
        ("SCREEN SAVE", "screenshot"),
    ],
)
def test_what_image_type_says_is_computed_is_not_t1w(kind: str, why: str, tmp_path: Path) -> None:
    """Timing and name are those of the T1W images it was computed from."""
    verdict = _verdict(tmp_path, T1, ImageType=["DERIVED", "SECONDARY", kind])
    assert verdict.sequence is None and verdict.never and why in verdict.why


@pytest.mark.parametrize("words", ["t1_vibe_dyn_SUB", "SER map", "t1_vibe_PE1", "T1 map", "t1 mip", "PDFF t1 vibe"])
@pytest.mark.parametrize("derived", [True, False])
def test_what_its_name_says_is_computed_is_not_t1w(words: str, derived: bool, tmp_path: Path) -> None:
    kind = ["DERIVED" if derived else "ORIGINAL", "PRIMARY", "M"]
    verdict = _verdict(tmp_path / "dicom", T1, SeriesDescription=words, ImageType=kind)
    assert verdict.sequence is None and verdict.sure and verdict.never == derived
    if not derived:  # a name may mislead: who knows better says so, and the answer stays doubtful
        import_dicom(tmp_path / "dicom", tmp_path / "own", t1w=1)
        (scan,) = cirrnb.read_cohort(tmp_path / "own").scans
        assert "by its name" in str(scan.extra["import_doubts"])


def test_a_subtraction_is_not_asked_about_beside_the_image(tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", T1, number=1)
    write_series(tmp_path / "dicom", T1, number=2, ImageType=["DERIVED", "PRIMARY", "M", "SUB"])
    write_series(tmp_path / "dicom", T1, number=3, SeriesDescription="t1_vibe_pv_sub")
    assert import_dicom(tmp_path / "dicom", tmp_path / "own").scans["T1W"][0].number == 1


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": ["DERIVED", "SECONDARY", "MPR", "CSA MPR", "", "CSAPARALLEL", "M"]},
        {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]},
        {"ImageType": ["DERIVED", "SECONDARY"], "DerivationDescription": "MEDCOM RESAMPLED"},
        {"SeriesDescription": "t1_vibe_fs <MPR Range>"},
    ],
)
def test_reformats_are_named_as_such_and_asked_about(tags: dict[str, Any], tmp_path: Path) -> None:
    verdict = _verdict(tmp_path / "a", {**T1, **tags})
    assert verdict.sequence == "T1W" and not verdict.sure and "multiplanar reformat" in verdict.why
    short = _verdict(tmp_path / "b", {**T1, **tags}, voxels=pattern(slices=1))
    assert short.never and "multiplanar reformat" in short.why and "1 slice only" in short.why


# ---------------------------------------------------------------------- Dixon


PARTS = {
    "water": [["M", "DIXON", "WATER"], ["W", "W", "DERIVED"]],
    "fat": [["M", "DIXON", "FAT"], ["F", "F", "DERIVED"]],
    "in-phase": [["M", "DIXON", "IN_PHASE"], ["IP", "IP", "DERIVED"]],
    "opposed-phase": [["M", "DIXON", "OPP_PHASE"], ["OP", "OP", "DERIVED"], ["OUT OF PHASE"]],
}
NAMED = {
    "water": ["t1_vibe_dixon_tra_bh_W", "WATER: Ax LAVA-Flex", "mDIXON water"],
    "fat": ["t1_vibe_dixon_tra_bh_F", "FAT: Ax LAVA-Flex"],
    "in-phase": ["t1_vibe_dixon_tra_bh_in", "InPhase: Ax LAVA-Flex", "T1 in-phase"],
    "opposed-phase": ["t1_vibe_dixon_tra_bh_opp", "OutPhase: Ax LAVA-Flex", "T1 out of phase", "t1_vibe_opp"],
    "dixon": ["t1_vibe_dixon_tra_bh", "t1_fl2d_opp-in_bh", "T1 in/out of phase"],
}


@pytest.mark.parametrize(("part", "kind"), [(part, kind) for part, kinds in PARTS.items() for kind in kinds])
def test_image_type_tells_the_parts_of_a_dixon_acquisition(part: str, kind: list[str], tmp_path: Path) -> None:
    verdict = _verdict(tmp_path, T1, ImageType=["DERIVED", "PRIMARY", *kind], SeriesDescription="t1_vibe_dixon")
    assert verdict.part == part and verdict.sequence == "T1W"
    assert verdict.sure == (part in ("water", "in-phase"))


@pytest.mark.parametrize(("part", "words"), [(part, words) for part, names in NAMED.items() for words in names])
def test_names_tell_the_parts_of_a_dixon_acquisition(part: str, words: str, tmp_path: Path) -> None:
    verdict = _verdict(tmp_path, T1, SeriesDescription=words)
    assert verdict.part == part and verdict.sequence == "T1W"
    assert verdict.sure == (part in ("water", "in-phase"))


def test_fat_suppression_is_no_fat_image(tmp_path: Path) -> None:
    for number, words in enumerate(("t1 fat sat", "T1 FS", "t1_vibe_fatsat", "T1 SPAIR")):
        assert _verdict(tmp_path / str(number), T1, SeriesDescription=words).part is None


def test_of_a_dixon_acquisition_the_water_image_is_taken(tmp_path: Path) -> None:
    for number, letter in enumerate(("in", "opp", "F", "W"), 1):
        write_series(tmp_path / "dicom", T1, number=number, SeriesDescription=f"t1_vibe_dixon_{letter}")
    made = import_dicom(tmp_path / "dicom", tmp_path / "own")
    assert made.scans["T1W"][0].number == 4 and "water image" in made.scans["T1W"][1]


@pytest.mark.parametrize("words", ["t1 fl2d", "t1_fl2d_opp-in", "AX 3D DUAL ECHO"])
@pytest.mark.parametrize(("field", "echoes"), [(1.5, (2.3, 4.6)), (3.0, (1.15, 2.3))])
def test_two_echoes_are_opposed_and_in_phase(
    field: float, echoes: tuple[float, float], words: str, tmp_path: Path
) -> None:
    for echo in echoes:
        tags = {**T1, "EchoTime": echo, "MagneticFieldStrength": field, "SeriesDescription": words}
        write_series(tmp_path / "dicom" / str(echo), tags, SeriesInstanceUID="1.2.3.77")
    looked = list_series(tmp_path / "dicom")
    assert [one.verdict.part for one in looked.judged] == ["opposed-phase", "in-phase"]
    assert import_dicom(looked, tmp_path / "own").scans["T1W"][0].number == 2


def test_one_echo_alone_is_of_no_phase(tmp_path: Path) -> None:
    assert _verdict(tmp_path, {**T1, "EchoTime": 2.3}).part is None
    assert _verdict(tmp_path / "t2", T2).part is None


# ---------------------------------------------------------------------- real files


@pytest.mark.real
def test_a_real_reformat_is_named_as_such(external_data: Path) -> None:
    (judged,) = list_series(external_data / "vibe_dicom").judged
    assert judged.verdict.sequence is None and "multiplanar reformat" in judged.verdict.why


@pytest.mark.real
def test_a_real_adc_map_is_named_as_such(external_data: Path) -> None:
    (judged,) = list_series(external_data / "cmb_crc").judged
    assert judged.verdict.never and "ADC map" in judged.verdict.why and judged.series.part == ""
