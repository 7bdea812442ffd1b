"""A data set comes whole and verified or not at all, from a server that stalls, cuts, lies, or packs harm."""

from __future__ import annotations

import io
import random
import shutil
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import stand_in_server as server
from published_tree import Patient, Quirks, Tree
from stand_in_server import StandIn, serving
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.download import dataset
from cirrnb.data.download.dataset import download, unpack
from cirrnb.data.download.transfer import CIRRMRI600, DataSet, Patience
from cirrnb.data.errors import InputError

HASTY = Patience(connect=2, silence=0.3, window=5, least=1, tries=3, pause=0.01)
NOISE = random.Random(0).randbytes(300_000)


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


@pytest.fixture
def osf() -> Iterator[StandIn]:
    with serving({"A.zip": zipped(**{"A/one.nii.gz": NOISE}), "B.zip": zipped(**{"two.csv": b"x"})}) as stand_in:
        yield stand_in


def known(osf: StandIn, **archives: str | None) -> DataSet:
    names = {f"{name}.zip": told for name, told in archives.items()} or dict.fromkeys(osf.files)
    return replace(CIRRMRI600, listing=f"{osf.url}/listing", archives=names)


def fetched(osf: StandIn, out: Path, **options: object) -> Path:
    given = {"agreed": True, "patience": HASTY, "tell": lambda line: None, "progress": False, **options}
    return download(known(osf), out, **given)


def test_all_archives_come_unpacked_and_a_second_call_asks_for_none(osf: StandIn, tmp_path: Path) -> None:
    out = fetched(osf, tmp_path / "out")
    assert (out / "A/one.nii.gz").read_bytes() == NOISE and (out / "B/two.csv").read_bytes() == b"x"
    assert "CC BY-NC 4.0" in (out / "LICENCE.txt").read_text() and not list(out.glob("*.zip"))
    osf.asked.clear()
    fetched(osf, out)
    assert osf.asked == []


def test_the_published_layout_is_read_once_it_is_here(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree", Quirks(metadata=""))
    patients = [Patient(7, {"T1W": ("train", True), "T2W": ("train", True)}, "mild", 60, "female")]
    tree.write([*patients, Patient(7, {"T1W": (None, True)}, healthy=True)])
    files = {}
    for top in ("Cirrhosis_T1_3D", "Cirrhosis_T2_3D", "Healthy_subjects"):
        inside = [path for path in (tree.root / top).rglob("*") if path.is_file()]
        files[f"{top}.zip"] = zipped(**{str(one.relative_to(tree.root)): one.read_bytes() for one in inside})
    tables = tree.root.glob("*.csv")  # Metadata.zip without a folder of its own; Cirrhosis_T2_3D with one
    files["Metadata.zip"] = zipped(**{path.name: path.read_bytes() for path in tables})
    with serving(files) as osf:
        out = fetched(osf, tmp_path / "out")
    found = cirrnb.read_cohort(out)
    assert [(scan.name, scan.stage, bool(scan.mask)) for scan in found.scans] == [
        ("cirrhotic/7 T1W", "mild", True),
        ("cirrhotic/7 T2W", "mild", True),
        ("healthy/7 T1W", None, True),
    ]


@pytest.mark.parametrize("act", [100_000, server.STALLS])
def test_a_transfer_that_breaks_goes_on_where_it_stopped(act: object, osf: StandIn, tmp_path: Path) -> None:
    osf.acts = [act]
    out = fetched(osf, tmp_path / "out", only=["A"])
    assert (out / "A/one.nii.gz").read_bytes() == NOISE
    assert osf.asked[0] is None and int(osf.asked[1][6:-1]) > 30_000  # Range of the second request


def test_a_second_call_goes_on_with_what_the_first_left(osf: StandIn, tmp_path: Path) -> None:
    osf.acts = [100_000, *[server.REFUSES] * 3]
    with pytest.raises(InputError, match=r"503.*0\.1 of 0\.3 MB.*resumes"):
        fetched(osf, tmp_path / "out", only=["A"])
    osf.asked.clear()
    fetched(osf, tmp_path / "out", only=["A"])
    assert len(osf.asked) == 1 and int(osf.asked[0][6:-1]) > 80_000
    assert (tmp_path / "out/A/one.nii.gz").read_bytes() == NOISE


@pytest.mark.parametrize("act", [server.IGNORES_RANGE, server.ELSEWHERE, server.MORE])
def test_a_server_that_answers_otherwise_than_asked_does_no_harm(act: str, osf: StandIn, tmp_path: Path) -> None:
    osf.acts = [100_000, act]
    out = fetched(osf, tmp_path / "out", only=["A"])
    assert (out / "A/one.nii.gz").read_bytes() == NOISE


def test_a_server_that_lies_is_not_believed(osf: StandIn, tmp_path: Path) -> None:
    osf.acts = [server.LIES]
    fetched(osf, tmp_path / "out", only=["A"])  # once more from the start
    osf.acts = [server.LIES, server.LIES]
    with pytest.raises(InputError, match=r"SHA-256 .*twice"):
        fetched(osf, tmp_path / "again", only=["A"])
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["LICENCE.txt"]


def test_silence_is_given_up_on(osf: StandIn, tmp_path: Path) -> None:
    osf.acts = [server.STALLS] + [0] * 3
    with pytest.raises(InputError, match="Call again later"):
        fetched(osf, tmp_path / "out", only=["A"])


def test_a_listing_with_another_checksum_or_without_an_archive_is_refused(osf: StandIn, tmp_path: Path) -> None:
    for archives, told in (({"A": "0" * 64}, "another checksum for A.zip"), ({"C": None}, "no C.zip in the listing")):
        with pytest.raises(InputError, match=told):
            download(known(osf, **archives), tmp_path / "out", agreed=True, patience=HASTY, tell=lambda line: None)
    assert osf.asked == []


def test_no_net_is_told(tmp_path: Path) -> None:
    nowhere = replace(CIRRMRI600, listing="http://127.0.0.1:9/listing")
    with pytest.raises(InputError, match=r"no listing.*Is there a network"):
        download(nowhere, tmp_path / "out", agreed=True, patience=HASTY)


def test_nothing_is_fetched_before_somebody_agrees(
    osf: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dataset.DATA_SETS, "cirrmri600", known(osf))
    result = CliRunner().invoke(app, ["download", "cirrmri600", str(tmp_path / "out")])
    assert isinstance(result.exception, InputError) and "--agree" in str(result.exception)
    assert "CC BY-NC 4.0" in result.output and osf.asked == [] and not (tmp_path / "out").exists()
    result = CliRunner().invoke(app, ["download", "cirrmri600", str(tmp_path / "out"), "--agree", "--only", "B"])
    assert result.exit_code == 0 and "checksum as published" in result.output
    assert isinstance(CliRunner().invoke(app, ["download", "other", "--agree"]).exception, InputError)


def test_a_full_disk_is_told_before_the_first_byte(
    osf: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 100_000))
    with pytest.raises(InputError, match=r"0\.0 GB free.*another disk"):
        fetched(osf, tmp_path / "out")
    assert osf.asked == []


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "C:/out.txt", "a\\..\\..\\out.txt"])
def test_no_path_leads_out_of_an_archive(name: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / "bad.zip"
    path.parent.mkdir()
    path.write_bytes(zipped(**{"good.txt": b"x", name: b"x"}))
    with pytest.raises(InputError, match="outside"):
        unpack(path, path.parent / "bad")
    assert [one.name for one in tmp_path.rglob("*")] == ["in", "bad.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("inside")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(link, "/etc")
        archive.writestr("inside/passwd", "x")
    with pytest.raises(InputError, match="a link or a device"):
        unpack(tmp_path / "bad.zip", tmp_path / "bad")


def test_bombs_damage_and_short_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(zipped(bomb=bytes(50_000_000)))
    with pytest.raises(InputError, match="unpack to"):
        unpack(path, tmp_path / "bad")
    whole = zipped(**{"one.bin": NOISE})
    path.write_bytes(whole[:-40])
    with pytest.raises(InputError, match="no whole ZIP"):
        unpack(path, tmp_path / "bad")
    path.write_bytes(whole[:5000] + bytes(10) + whole[5010:])
    with pytest.raises(InputError, match="a damaged file"):
        unpack(path, tmp_path / "bad")
    assert [one.name for one in tmp_path.iterdir()] == ["bad.zip"]
