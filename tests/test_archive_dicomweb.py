"""An archive that speaks DICOMweb, in whose place a local server stands: what it does wrong, and what comes of it."""

from __future__ import annotations

import datetime
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import stand_in_archive as odd
from dicom_phantoms import T1, write_series
from pydicom import dcmread
from stand_in_archive import FETCH, LIST, OBJECTS, STORE, StandIn

from cirrnb.archive.dicomweb import (
    PASSWORD,
    TOKEN,
    USER,
    Archive,
    ArchiveError,
    ListedSeries,
    ListedStudy,
    Patience,
    check_address,
    check_credentials,
)
from cirrnb.archive.fetching import StudyQuery
from cirrnb.data.errors import InputError

pytest.importorskip("dicomweb_client")
QUICK = Patience(connect=10, silence=20, whole=60, tries=3, pause=0.01, longest=0.05)
HURRIED = replace(QUICK, silence=0.3)
"""For a server that stalls."""
STUDY = "1.2.3.1"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "series", T1, study=STUDY)


@pytest.fixture
def server(files: list[Path]) -> Iterator[StandIn]:
    with odd.archive() as stand_in:
        stand_in.add(files, description="MRI Liver", body_part="ABDOMEN")
        yield stand_in


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (USER, PASSWORD, TOKEN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def fetch(server: StandIn, folder: Path, patience: Patience = QUICK) -> int:
    archive = Archive(server.url, patience=patience)
    (series,) = archive.list_series(STUDY)
    return archive.fetch_series(STUDY, series, folder)


def test_what_is_fetched_is_what_was_stored(server: StandIn, files: list[Path], tmp_path: Path) -> None:
    archive = Archive(server.url, patience=QUICK)
    assert archive.find_studies({"ModalitiesInStudy": "MR"}) == [ListedStudy(STUDY, "MRI Liver", "20240506")]
    assert archive.find_studies({"ModalitiesInStudy": "MR", "StudyDate": "20240507-"}) == []
    assert fetch(server, tmp_path / "fetched") == len(files)
    uid = "SOPInstanceUID"
    came = {data[uid].value: data for data in map(dcmread, (tmp_path / "fetched").iterdir())}
    assert {data[uid].value: data for data in map(dcmread, files)} == came


def test_long_lists_are_read_to_their_end(server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        server.add(write_series(tmp_path / str(number), T1, study=f"1.2.4.{number}")[:1])
    monkeypatch.setattr("cirrnb.archive.dicomweb._PAGE", 2)
    found = [study.uid for study in Archive(server.url).find_studies({})]
    assert len(found) == len(set(found)) == 6


@pytest.mark.parametrize(
    ("act", "words", "tries"),
    [
        (odd.STALLS, "no byte within", 3),
        (odd.CUTS, "the connection was cut", 3),
        (503, "the answer 503", 3),
        (500, "the answer 500", 3),
        (404, "the answer 404", 1),
        (403, "no permission", 1),
        (odd.HTML, "no DICOMweb", 3),
        (odd.LESS, "10 of 11 pictures", 3),
        (odd.OTHER, "pictures of another series", 1),
    ],
)
def test_a_fetch_that_fails_says_why_and_names_nobody(
    act: str | int, words: str, tries: int, server: StandIn, tmp_path: Path
) -> None:
    server.add(write_series(tmp_path / "other", T1, study="1.2.3.77"))
    server.always[FETCH] = act
    with pytest.raises(ArchiveError) as caught:
        fetch(server, tmp_path / "fetched", HURRIED if act == odd.STALLS else QUICK)
    assert words in caught.value.reason and server.asked[FETCH] == tries
    assert not [word for word in ("Patient", "1.2.3", "127.0.0.1") if word in str(caught.value)]
    assert caught.value.down == (act == odd.STALLS)


@pytest.mark.parametrize("act", [odd.STALLS, odd.CUTS, 503, 429, odd.LESS])
def test_what_fails_once_is_asked_again(act: str | int, server: StandIn, files: list[Path], tmp_path: Path) -> None:
    server.acts[FETCH] = [act]
    patience = HURRIED if act == odd.STALLS else QUICK
    assert fetch(server, tmp_path / "fetched", patience) == len(files) and server.asked[FETCH] == 2
    assert len(list((tmp_path / "fetched").iterdir())) == len(files)


def test_pauses_grow(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.always[LIST] = 503
    with pytest.raises(ArchiveError):
        Archive(server.url, patience=Patience(tries=5, pause=2, longest=10)).find_studies({})
    assert pauses == [2, 4, 8, 10]


def test_a_byte_now_and_then_is_not_enough(server: StandIn, tmp_path: Path) -> None:
    server.always[FETCH] = odd.DRIPS
    began = time.monotonic()
    with pytest.raises(ArchiveError, match="not done within") as caught:
        fetch(server, tmp_path / "fetched", Patience(silence=1, whole=0.5, tries=3, pause=0.01))
    assert caught.value.down and time.monotonic() - began < 10 and server.asked[FETCH] == 1


def test_a_dead_server_is_told_by_that(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        archive = Archive(f"http://127.0.0.1:{taken.getsockname()[1]}/dicom-web", patience=QUICK)
        with pytest.raises(ArchiveError, match="no connection") as caught:
            archive.find_studies({})
    assert caught.value.down and "127.0.0.1" not in caught.value.reason


def test_an_object_is_stored_and_found(server: StandIn, files: list[Path]) -> None:
    uids = [str(dcmread(files[0])[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    archive = Archive(server.url, patience=QUICK)
    assert archive.holds(*uids) is True
    server.objects.clear()
    assert archive.holds(*uids) is False
    archive.store(files[0])
    assert list(server.objects) == uids[2:] and archive.holds(*uids) is True
    assert dict(server.sent) == {uids[2]: 1}
    server.always[OBJECTS] = 400
    assert archive.holds(*uids) is None


@pytest.mark.parametrize(
    ("act", "words", "tries"),
    [
        (odd.REJECTS, "0xA900: the object does not match its class", 1),
        (odd.LIES, "does not hold it", 1),
        (413, "rejected", 1),
        (503, "the answer 503", 3),
        (odd.STALLS, "no byte within", 3),
    ],
)
def test_an_object_that_is_not_taken_says_why(
    act: str | int, words: str, tries: int, server: StandIn, files: list[Path]
) -> None:
    server.objects.clear()
    server.always[STORE] = act
    with pytest.raises(ArchiveError) as caught:
        Archive(server.url, patience=HURRIED if act == odd.STALLS else QUICK).store(files[0])
    assert words in caught.value.reason and server.asked[STORE] == tries and not server.objects


def test_credentials_come_from_the_environment_or_netrc(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArchiveError, match="no permission"):
        server.needs = "Basic bmlnaHQ6c2VjcmV0"  # night:secret
        Archive(server.url).find_studies({})
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login night password secret\n")
    assert Archive(server.url).find_studies({})
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv(USER, "night")
    monkeypatch.setenv(PASSWORD, "secret")
    assert Archive(server.url).find_studies({})
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv(TOKEN, "t0ken")
    server.needs = "Bearer t0ken"
    assert Archive(server.url).find_studies({})


def test_credentials_are_refused_in_an_address_and_for_two_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        "https://night:secret@host/x",
        "https://host/x?token=secret",
        "secret",
        "ftp://host",
        "https://h:secret",
    ):
        with pytest.raises(InputError) as caught:
            check_address(url, "--to-dicomweb")
        assert "secret" not in str(caught.value) and "--to-dicomweb" in str(caught.value)
    assert check_address("http://127.0.0.1:8042/dicom-web/", "--to-dicomweb") == "http://127.0.0.1:8042/dicom-web"
    check_credentials("https://one/x", "https://other/x")
    monkeypatch.setenv(TOKEN, "t0ken")
    check_credentials("https://one/x", "https://one/y", None)
    with pytest.raises(InputError):
        check_credentials("https://one/x", "https://other/x")


def test_a_query_names_dates_descriptions_and_body_parts() -> None:
    today = datetime.date(2026, 11, 26)
    assert StudyQuery(date="2d").filters(today) == {"ModalitiesInStudy": "MR", "StudyDate": "20261124-20261126"}
    for text in ("20261101", "20261101-", "-20261101", "20261101-20261130"):
        assert StudyQuery(date=text).filters()["StudyDate"] == text
    for text in ("yesterday", "20261301", "20261130-20261101", "-", "1-2-3", "2026111"):
        with pytest.raises(InputError, match="date"):
            StudyQuery(date=text).filters()
    liver = ListedStudy("1", "MRI of the LIVER [2]")
    assert all(StudyQuery(description=text).wants(liver) for text in ("liver", "mri*liver*", "*[2]", None))
    assert not any(StudyQuery(description=text).wants(liver) for text in ("liver*", "head", "?"))
    series = [ListedSeries("1", "MR", "ABDOMEN", 3), ListedSeries("2", "MR", "", 3), ListedSeries("3", "CT", "HEAD", 3)]
    assert StudyQuery(body_part="liver, abdomen").wanted(series) == series[:2] == StudyQuery().wanted(series)
    assert StudyQuery(body_part="HEAD").wanted(series) == [] and StudyQuery(body_part="HEAD").wanted(series[1:2])
