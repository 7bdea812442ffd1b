"""Studies fetched from an archive into the spool: new ones once, and no failure stops the others."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stand_in_archive as odd
from dicom_phantoms import T1, T2, write_series
from pydicom import dcmread
from pydicom.dataset import FileDataset
from stand_in_archive import FETCH, LIST, SERIES, StandIn

from cirrnb.archive.dicomweb import Archive, Patience
from cirrnb.archive.fetching import MARK, Fetched, Fetcher, Spool, StudyQuery, record_listings
from cirrnb.archive.inbox import DISK, NOT_FETCHED, name_of, read_inbox
from cirrnb.archive.intake import FORGOTTEN, IMPORTED, KNOWN, Intake, forget_study, take_in
from cirrnb.archive.records import read_record, write_record
from cirrnb.data.errors import InputError

pytest.importorskip("dicomweb_client")
QUICK = Patience(connect=10, silence=20, whole=60, tries=2, pause=0.01, longest=0.05)
STUDIES = [f"1.2.3.{number}" for number in range(5)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandIn]:
    """Two series of each of five studies."""
    with odd.archive() as stand_in:
        for study in STUDIES:
            for number, says in enumerate((T1, T2), 1):
                stand_in.add(write_series(tmp_path / study / str(number), says, study=study, number=number))
        yield stand_in


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path / "spool").opened() as opened:
        yield opened


def fetcher(server: StandIn, spool: Spool, cohort: Path, silence: float = 20, **query: str) -> Fetcher:
    archive = Archive(server.url, patience=replace(QUICK, silence=silence))
    return Fetcher(archive, StudyQuery(**query), spool, cohort)


def night(server: StandIn, folder: Path, **query: str) -> tuple[Fetched, list[Intake]]:
    """One night without the report: what was fetched, and what was imported."""
    with Spool(folder / "night").opened() as spool:
        fetched = fetcher(server, spool, folder / "cohort", **query).fetch_new()
        taken = take_in(read_inbox(spool.incoming), folder / "cohort")
        record_listings(folder / "cohort", fetched.listings, taken)
    return fetched, taken


def test_only_what_is_new_is_fetched(server: StandIn, tmp_path: Path) -> None:
    first, taken = night(server, tmp_path)
    assert (first.listed, len(first.listings), first.failed) == (5, 5, {})
    assert {intake.state for intake in taken} == {IMPORTED}
    asked = server.asked[FETCH]
    second, taken = night(server, tmp_path)
    assert server.asked[FETCH] == asked and not second.listings and not taken
    assert [intake.state for intake in second.known] == [KNOWN] * 5
    server.add(write_series(tmp_path / "late", T1, study=STUDIES[0], number=3, SeriesDescription="localizer"))
    third, taken = night(server, tmp_path)
    assert list(third.listings) == [name_of(STUDIES[0])] == [intake.name for intake in taken]
    assert forget_study(tmp_path / "cohort", name_of(STUDIES[1]))
    asked = server.asked[FETCH]
    states = [intake.state for intake in night(server, tmp_path)[0].known]
    assert sorted(states) == [FORGOTTEN, *[KNOWN] * 4] and server.asked[FETCH] == asked


def test_results_that_came_back_make_no_study_new(server: StandIn, tmp_path: Path) -> None:
    night(server, tmp_path)
    for number, modality in enumerate(("SEG", "SR", "DOC")):
        server.add(write_series(tmp_path / modality, T1, study=STUDIES[0], Modality=modality, number=9 + number))
    assert not night(server, tmp_path)[0].listings


def test_the_query_narrows_what_is_fetched(server: StandIn, spool: Spool, tmp_path: Path) -> None:
    for number, held in enumerate(server.objects.values()):
        held.description, held.body_part = ("MRI Liver", "ABDOMEN") if held.study == STUDIES[0] else ("MRI", "HEAD")
        held.date = "20261101" if number % 2 else held.date
    server.add(write_series(tmp_path / "ct", T1, study="1.2.9", Modality="CT"))
    one = fetcher(server, spool, tmp_path / "cohort", description="liver").fetch_new()
    assert one.listed == 1 and [path.name for path in spool.incoming.iterdir()] == [name_of(STUDIES[0])]
    assert fetcher(server, spool, tmp_path / "cohort", body_part="HEAD").fetch_new().listed == 4
    assert fetcher(server, spool, tmp_path / "cohort", date="20200101").fetch_new().listed == 0
    assert fetcher(server, spool, tmp_path / "cohort", modality="CT").fetch_new().listed == 1


def test_one_study_that_cannot_be_fetched_costs_the_others_nothing(server: StandIn, tmp_path: Path) -> None:
    server.acts[FETCH] = [404]
    first, taken = night(server, tmp_path)
    ((lost, fault),) = first.failed.items()
    assert fault.code == NOT_FETCHED and "404" in fault.text and len(taken) == 4
    second, taken = night(server, tmp_path)
    assert list(second.listings) == [lost] == [intake.name for intake in taken] and not second.failed


@pytest.mark.parametrize("verb", [SERIES, FETCH])
def test_a_server_that_stalls_is_given_up_soon(verb: str, server: StandIn, spool: Spool, tmp_path: Path) -> None:
    server.always[verb] = odd.STALLS
    fetched = fetcher(server, spool, tmp_path / "cohort", silence=0.4).fetch_new()
    reasons = [fault.text for fault in fetched.failed.values()]
    assert fetched.listed == len(reasons) == 5 and server.asked[verb] == 2 * QUICK.tries
    assert [reason.startswith("no byte within") for reason in reasons] == [True, True, False, False, False]
    assert all(reason.startswith("not tried") for reason in reasons[2:])
    assert not [path for path in spool.incoming.rglob("*") if path.is_file()]


def test_a_server_that_gives_no_list_is_named(server: StandIn, spool: Spool, tmp_path: Path) -> None:
    server.always[LIST] = 503
    fetched = fetcher(server, spool, tmp_path / "cohort").fetch_new()
    assert fetched.unanswered == "the answer 503" and not fetched.listed


def test_a_study_that_is_known_stays_while_the_server_is_ill(server: StandIn, tmp_path: Path) -> None:
    night(server, tmp_path)
    server.add(write_series(tmp_path / "late", T1, study=STUDIES[0], number=3, SeriesDescription="localizer"))
    server.always[FETCH] = 500
    fetched, taken = night(server, tmp_path)
    assert list(fetched.failed) == [name_of(STUDIES[0])] and not taken
    assert len(fetched.known) == 5 and {intake.state for intake in fetched.known} == {KNOWN}


def test_a_full_disk_leaves_nothing_half_and_is_tried_again(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, left = FileDataset.save_as, [30]

    def full(data: Any, path: Any, *given: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(data, path, *given, **named)

    monkeypatch.setattr(FileDataset, "save_as", full)
    fetched, taken = night(server, tmp_path)
    assert len(taken) == 1 and [fault.code for fault in fetched.failed.values()] == [DISK] * 4
    monkeypatch.undo()
    fetched, taken = night(server, tmp_path)
    assert len(taken) == 4 and not fetched.failed


def test_a_record_that_finds_no_room_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path, "study-1", listing="before")

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cirrnb.archive.records.atomic_write", full)
    write_record(tmp_path, "study-1", listing="after")
    assert read_record(tmp_path, "study-1") == {"listing": "before"} and read_record(tmp_path, "study-2") == {}


def test_a_run_that_was_killed_goes_on_with_what_it_had_fetched(server: StandIn, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "killed")
    with spool.opened():
        fetcher(server, spool, tmp_path / "cohort").fetch_new()
        kept = {path.name: path for path in spool.incoming.iterdir()}
        one, *others = kept
        for name in others:
            kept[name].rename(tmp_path / name)
        (spool.incoming / one).rename(tmp_path / "one")
        half = spool.incoming / ".writing-0123-half" / "0000"
        half.mkdir(parents=True)
    spool.incoming.mkdir()
    (tmp_path / "one").rename(spool.incoming / one)
    asked = server.asked[FETCH]
    with spool.opened():
        fetched = fetcher(server, spool, tmp_path / "cohort").fetch_new()
        assert len(fetched.listings) == 5 and server.asked[FETCH] - asked == 2 * 4
        assert sorted(path.name for path in spool.incoming.iterdir()) == sorted(kept)


def test_a_spool_is_private_and_empty_in_the_end(server: StandIn, tmp_path: Path) -> None:
    with Spool(tmp_path / "spool").opened() as spool:
        fetcher(server, spool, tmp_path / "cohort").fetch_new()
        assert spool.path.stat().st_mode & 0o777 == 0o700 and list(spool.incoming.rglob("*.dcm"))
    assert {path.name for path in spool.path.iterdir()} <= {MARK, ".lock"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").touch()
    with pytest.raises(InputError), Spool(tmp_path / "other").opened():
        pass
    assert (tmp_path / "other/thesis.txt").exists()


def test_pictures_that_the_archive_cut_are_refused_by_the_import(server: StandIn, tmp_path: Path) -> None:
    held = next(each for each in server.objects.values() if each.study == STUDIES[0])
    data = dcmread(next((tmp_path / STUDIES[0] / "1").iterdir()))
    whole = held.content
    held.content = whole[: len(whole) - len(data.PixelData) // 2]
    fetched, taken = night(server, tmp_path)
    states = {intake.name: intake.fault.code for intake in taken if intake.fault}
    states |= {name: fault.code for name, fault in fetched.failed.items()}
    assert list(states) == [name_of(STUDIES[0])] and states[name_of(STUDIES[0])] in (NOT_FETCHED, "incomplete")
