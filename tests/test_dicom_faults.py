"""What of a DICOM folder cannot be used: the true reason is told, and the rest of the folder is imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dicom_phantoms import JPEG_2000, T1, T2, pattern, write_enhanced, write_series
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.dicom.files import read_instance
from cirrnb.data.dicom.importing import import_dicom, list_series
from cirrnb.data.errors import InputError

PLACING = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
STRAY = {
    "ImagePositionPatient": [float("nan"), 0.0, 0.0],
    "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
    "PixelSpacing": [2.0, 1.6],
    "FrameOfReferenceUID": "1.2.3.10",
    "Rows": 12,
    "SamplesPerPixel": 3,
    "PhotometricInterpretation": "MONOCHROME1",
    "EchoTime": 30.0,
    "BitsAllocated": 12,
    "BitsStored": 12,
    "PixelRepresentation": 0,
    "RescaleSlope": 0.0,
    "StudyDate": "19990101",
    "StudyInstanceUID": "1.2.3.99",
}


def changed(paths: list[Path], change: Callable[[Dataset], object], among: Collection[int]) -> None:
    """Write some of a series' files anew."""
    for place, path in enumerate(sorted(paths, key=lambda one: int(dcmread(one).InstanceNumber))):
        if place in among:
            data = dcmread(path)
            change(data)
            data.save_as(path)


def fault_beside_a_sound_series(folder: Path) -> str:
    """What is told of the T2W series of a folder; the T1W series is imported all the same."""
    judged = {one.series.tags["SeriesNumber"]: one for one in list_series(folder).judged}
    assert judged[3].verdict.sequence == "T1W" and judged[5].verdict.never
    assert set(import_dicom(folder, folder.with_name("own")).scans) == {"T1W"}
    with pytest.raises(InputError) as raised:
        import_dicom(folder, folder.with_name("again"), t2w=judged[5].number)
    assert judged[5].verdict.why == raised.value.found
    return raised.value.found


@pytest.mark.parametrize("among", [range(11), (0,), (6,), (10,)], ids=["all", "first", "middle", "last"])
@pytest.mark.parametrize("keyword", PLACING)
def test_a_series_that_lacks_what_geometry_rests_on_is_refused_alone(
    keyword: str, among: Collection[int], tmp_path: Path
) -> None:
    write_series(tmp_path / "dicom", T1, number=3)
    changed(write_series(tmp_path / "dicom", T2, number=5), lambda data: delattr(data, keyword), among)
    found = fault_beside_a_sound_series(tmp_path / "dicom")
    assert keyword in found and f"{len(among)} of 11" in found


@pytest.mark.parametrize("among", [(0,), (6,), (10,)], ids=["first", "middle", "last"])
@pytest.mark.parametrize("keyword", STRAY)
def test_a_series_whose_files_differ_is_refused_alone(keyword: str, among: Collection[int], tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", T1, number=3)
    files = write_series(tmp_path / "dicom", T2, number=5)
    changed(files, lambda data: setattr(data, keyword, STRAY[keyword]), among)
    fault_beside_a_sound_series(tmp_path / "dicom")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("Columns", 19), ("Rows", 23), ("BitsAllocated", 12), ("RescaleSlope", 0.0), ("RescaleIntercept", 1e30)],
)
def test_a_series_whose_header_does_not_fit_its_pictures_is_refused_alone(
    keyword: str, value: object, tmp_path: Path
) -> None:
    write_series(tmp_path / "dicom", T1, number=3)
    changed(write_series(tmp_path / "dicom", T2, number=5), lambda data: setattr(data, keyword, value), range(11))
    fault_beside_a_sound_series(tmp_path / "dicom")


@pytest.mark.parametrize(
    ("group", "keyword", "value"),
    [
        ("PlanePositionSequence", "ImagePositionPatient", None),
        ("PlaneOrientationSequence", "ImageOrientationPatient", [1, 0, 0, 0, 0, -1]),
        ("PixelMeasuresSequence", "PixelSpacing", [2.0, 1.6]),
    ],
)
def test_every_frame_of_an_enhanced_object_is_looked_at(
    group: str, keyword: str, value: object, tmp_path: Path
) -> None:
    write_enhanced(tmp_path / "IM1", T1, pattern())
    data = dcmread(tmp_path / "IM1")
    frame = data.PerFrameFunctionalGroupsSequence[7]
    item = Dataset()
    if value is not None:
        setattr(item, keyword, value)
    setattr(frame, group, [item])
    data.save_as(tmp_path / "IM1")
    assert list_series(tmp_path).judged[0].verdict.never


def test_different_pictures_of_one_uid_are_told_as_that(tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", T1, number=3)
    write_series(tmp_path / "dicom", T2, number=5, SOPInstanceUID="1.2.3.4")
    assert "11 different pictures with 1 SOPInstanceUID" in fault_beside_a_sound_series(tmp_path / "dicom")
    assert not list_series(tmp_path / "dicom").files.skipped


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_no_damaged_byte_breaks_the_reader(kind: str, tmp_path: Path) -> None:
    if kind == "classic":
        path = write_series(tmp_path, T1, voxels=pattern(1))[0]
    else:
        path = tmp_path / "IM1"
        write_enhanced(path, T1, pattern(3))
    whole, random, found = path.read_bytes()[:6000], np.random.default_rng(0), Counter[str]()
    representations = (b"SQ", b"UN", b"DS", b"IS", b"AT", b"US", b"FD", b"XX")
    for number in range(400):
        content, place = bytearray(whole), int(random.integers(132, min(len(whole), 2400)))
        if number % 4 == 0:
            content = content[:place]
        elif number % 4 == 1:
            content[place : place + 2] = representations[number // 4 % len(representations)]
        else:
            content[place] = random.integers(256)
        path.write_bytes(content)
        read = read_instance(path)
        found[read if isinstance(read, str) else "read"] += 1
    assert set(found) <= {"read", "damaged DICOM", "DICOM without a picture"}, found
    assert found["read"] and found["damaged DICOM"]


@pytest.mark.parametrize("what", ["files", "folder", "nothing"])
def test_links_are_told_as_links(what: str, tmp_path: Path) -> None:
    paths = write_series(tmp_path / "elsewhere", T1)
    folder = tmp_path / "dicom"
    folder.mkdir()
    for path in paths if what == "files" else [tmp_path / "elsewhere" if what == "folder" else tmp_path / "gone"]:
        (folder / path.name).symlink_to(path)
    with pytest.raises(InputError) as raised:
        list_series(folder)
    assert "links" in raised.value.found and "empty" not in raised.value.found
    write_series(folder / "own", T2)
    result = CliRunner().invoke(app, ["import-dicom", str(folder), "--list"])
    assert result.exit_code == 0 and f"{11 if what == 'files' else 1} links" in result.output


@pytest.mark.parametrize("among", [range(11), (7,)], ids=["all", "one"])
def test_text_in_the_pictures_is_told(among: Collection[int], tmp_path: Path) -> None:
    files = write_series(tmp_path / "dicom", T1)
    changed(files, lambda data: setattr(data, "BurnedInAnnotation", "YES"), among)
    for words in (["--list"], [str(tmp_path / "own")]):
        result = CliRunner().invoke(app, ["import-dicom", str(tmp_path / "dicom"), *words])
        assert result.exit_code == 0 and "BurnedInAnnotation" in result.output
    assert "BurnedInAnnotation" in cirrnb.read_cohort(tmp_path / "own").scans[0].extra["chosen_because"]
    assert "without names, dates or free text." not in result.output


@pytest.mark.parametrize("syntax", [None, JPEG_2000])
def test_what_the_converter_itself_said_is_told(
    syntax: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "dicom", T1, packed=syntax)
    program = tmp_path / "converter"
    said = ["Chris Rorden's dcm2niiX version (JP2:OpenJPEG) (JP-LS:CharLS)", "Error: Missing images"]
    program.write_text("\n".join(["#!/bin/sh", *(f'echo "{line}"' for line in said), "exit 8"]))
    program.chmod(0o755)
    monkeypatch.setattr("cirrnb.data.dicom.conversion._program", lambda: str(program))
    with pytest.raises(InputError, match=r"exit code 8.*Error: Missing images") as raised:
        import_dicom(tmp_path / "dicom", tmp_path / "own")
    assert "unpack" not in str(raised.value) and "JPEG" not in str(raised.value)


def test_imports_at_once_keep_patients_apart(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / f"dicom{number}"
        tags = {"PatientAge": f"0{40 + number}Y", "PatientID": f"P{number}"}
        write_series(folder, T1, voxels=np.full((11, 24, 20), 100 + number), number=1, **tags)
        write_series(folder, T2, voxels=np.full((11, 24, 20), 200 + number), number=2, **tags)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: import_dicom(tmp_path / f"dicom{number}", tmp_path / "own"), range(3)))
    scans = cirrnb.read_cohort(tmp_path / "own").scans
    assert len(scans) == 6
    for scan in scans:
        values = np.asarray(nib.load(scan.image).dataobj)
        assert values.min() == values.max() == {"T1W": 60, "T2W": 160}[scan.sequence] + scan.age


@pytest.mark.parametrize(("first", "second"), [("a", "A"), ("\u00e9", "e\u0301"), ("case-1", "CASE-1")])
def test_a_name_that_some_file_systems_do_not_tell_apart_is_taken(first: str, second: str, tmp_path: Path) -> None:
    write_series(tmp_path / "one", T1)
    write_series(tmp_path / "two", T1)
    import_dicom(tmp_path / "one", tmp_path / "own", name=first)
    with pytest.raises(InputError, match="this name already"):
        import_dicom(tmp_path / "two", tmp_path / "own", name=second)


@pytest.mark.parametrize(
    "geometry",
    [{"spacing": (1e10, 1e10)}, {"apart": 5000.0}, {"origin": (1e8, 0.0, 0.0)}],
    ids=["voxels", "slices apart", "origin"],
)
def test_a_geometry_that_no_patient_has_is_refused_in_the_listing(tmp_path: Path, geometry: dict[str, Any]) -> None:
    write_series(tmp_path / "dicom", T1, number=3)
    write_series(tmp_path / "dicom" / "odd", T2, number=5, **geometry)
    fault_beside_a_sound_series(tmp_path / "dicom")


@pytest.mark.parametrize("frames", [-1, -2147483648])
def test_fewer_than_no_frames_are_damage(tmp_path: Path, frames: int) -> None:
    paths = write_series(tmp_path / "dicom", T1, number=3)
    changed(paths, lambda data: setattr(data, "NumberOfFrames", frames), (0,))
    assert [read_instance(path) for path in paths].count("damaged DICOM") == 1


@pytest.mark.parametrize(
    ("told", "kept"), [("045Y", "45"), ("095Y", "90"), ("999Y", None), ("000Y", None), ("006M", None)]
)
def test_an_age_that_nobody_has_is_unknown(told: str, kept: str | None, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", {**T1, "PatientAge": told}, number=3)
    scans = import_dicom(tmp_path / "dicom", tmp_path / "own").scans
    assert set(scans) == {"T1W"}
    age = cirrnb.read_cohort(tmp_path / "own").scans[0].age
    assert age == (float(kept) if kept else None)
