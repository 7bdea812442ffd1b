"""An archive that speaks DICOMweb: find studies (QIDO-RS), fetch series (WADO-RS), store results (STOW-RS).

Whatever an archive does wrong ends as `ArchiveError` with words of our own: an address holds UIDs, and an answer may
hold names.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from cirrnb.data.errors import InputError

USER, PASSWORD, TOKEN = "CIRRNB_DICOMWEB_USER", "CIRRNB_DICOMWEB_PASSWORD", "CIRRNB_DICOMWEB_TOKEN"
"""Environment variables with credentials. Without them netrc is asked, by host."""

_JSON = "application/dicom+json"
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that is busy or restarting."""

_PERMISSION = (401, 403)
_REJECTED = {
    0x0110: "it could not process it",
    0x0122: "it takes no objects of this class",
    0x0124: "not authorised",
    0x0117: "the object is not valid",
    0xA700: "out of resources",
    0xA900: "the object does not match its class",
    0xC000: "it does not understand it",
}
"""FailureReason (0008,1197) of STOW-RS, PS3.18 annex I."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Patience:
    """Limits after which an archive is given up.

    Attributes
    ----------
    connect, silence : seconds without a connection, and without a byte.
    whole : seconds that one series, list or object may take, however busy the line.
    tries : how often anything is asked. pause : seconds before the second time, doubled each time.
    longest : seconds of a pause at most, also where the server asks for more.
    """

    connect: float = 15.0
    silence: float = 60.0
    whole: float = 1800.0
    tries: int = 5
    pause: float = 2.0
    longest: float = 60.0


class ArchiveError(Exception):
    """Why an archive did not do what it was asked, without a UID, an address or a word of its answer.

    `down` is True where it did not answer at all, so that the next request would hardly fare better.
    """

    def __init__(self, reason: str, *, down: bool = False):
        super().__init__(reason)
        self.reason, self.down = reason, down


@dataclass(frozen=True)
class ListedSeries:
    """A series as an archive lists it. `pictures` is their number, None where the archive does not say."""

    uid: str
    modality: str
    body_part: str
    pictures: int | None


@dataclass(frozen=True)
class ListedStudy:
    """A study as an archive lists it; description and date (YYYYMMDD) are empty where it does not say."""

    uid: str
    description: str = ""
    date: str = ""


def check_address(url: str, option: str) -> str:
    """The address of a DICOMweb service without a slash at its end.

    Raises InputError, which does not repeat the address, if it is none or holds credentials: it is written into the
    records of a run.
    """
    remedy = "Write https://HOST/PATH, such as http://127.0.0.1:8042/dicom-web."
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InputError(option, "no address", "the address of a DICOMweb service", remedy) from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        remedy = f"Put them into ~/.netrc, or into the environment ({USER} and {PASSWORD}, or {TOKEN})."
        raise InputError(option, "credentials or a query in the address", "an address that may be written down", remedy)
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(option, "no address", "the address of a DICOMweb service", remedy)
    return url.rstrip("/")


class Archive:
    """One DICOMweb service.

    Parameters
    ----------
    url : address of the service. option : by which it was given, for messages.
    patience : limits for each request.

    Raises InputError if the extra for DICOMweb is not installed, or the address is none.
    """

    def __init__(self, url: str, option: str = "--from-dicomweb", patience: Patience | None = None):
        self.url, self._patience = check_address(url, option), patience or Patience()
        self._session = _session()
        self._watch = _Watch()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._watch)
        self._client = _client(self.url, self._session, (self._patience.connect, self._patience.silence))

    def find_studies(self, filters: Mapping[str, str]) -> list[ListedStudy]:
        """Studies that match (DICOM keyword -> value), each once, in the order of the archive.

        Raises ArchiveError.
        """
        by_uid: dict[str, ListedStudy] = {}
        while True:
            page = self._tried(partial(self._page, filters, len(by_uid)))
            studies = [ListedStudy(_text(row, _STUDY), _text(row, _DESCRIPTION), _text(row, _DATE)) for row in page]
            fresh = {study.uid: study for study in studies if study.uid and study.uid not in by_uid}
            if not fresh:  # the end, or an archive that knows no pages and lists the same again
                return list(by_uid.values())
            by_uid |= fresh

    def list_series(self, study: str) -> list[ListedSeries]:
        """The series of a study. Raises ArchiveError."""
        rows = self._tried(
            lambda: self._client.search_for_series(study, fields=list(_SERIES_FIELDS), search_filters={})
        )
        series = {
            _text(row, _SERIES): ListedSeries(
                _text(row, _SERIES), _text(row, _MODALITY), _text(row, _BODY_PART), _number(row, _PICTURES)
            )
            for row in rows
            if _text(row, _STUDY) in ("", study)
        }
        return [listed for uid, listed in series.items() if uid]

    def fetch_series(self, study: str, series: ListedSeries, folder: Path) -> int:
        """Write the pictures of a series into a new folder; how many came.

        Raises ArchiveError if fewer came than the archive lists, or others than were asked for; OSError if the disk
        cannot be written.
        """

        def attempt() -> int:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():  # of an attempt before
                path.unlink()
            count = 0
            for count, data in enumerate(self._pictures(study, series.uid), 1):
                if (str(data.get("StudyInstanceUID")), str(data.get("SeriesInstanceUID"))) != (study, series.uid):
                    raise ArchiveError("pictures of another series came")
                data.save_as(folder / f"{count:06d}.dcm", enforce_file_format=True)
            if count < (series.pictures or 1):
                raise _Unfinished(f"{count} of {series.pictures or 'its'} pictures of a series came")
            return count

        return self._tried(attempt)

    def holds(self, study: str, series: str, instance: str) -> bool | None:
        """Whether an object is there; None where nobody can ask the archive for single ones. Raises ArchiveError."""
        filters = {"SOPInstanceUID": instance}
        try:
            rows = self._tried(
                lambda: self._client.search_for_instances(study, series, search_filters=filters, limit=5)
            )
        except _Answered as error:
            if error.status in (*_PERMISSION, *_AGAIN):
                raise
            return False if error.status == 404 else None
        return any(_text(row, _INSTANCE) == instance for row in rows)

    def store(self, path: Path) -> None:
        """Send one object and see that it was taken. Raises ArchiveError, OSError where the file cannot be read."""
        from pydicom import dcmread

        data = dcmread(path)
        study, series, instance = (
            str(data[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        )
        answer = self._tried(lambda: self._client.store_instances([data], study))
        for failed in answer.get("FailedSOPSequence") or []:
            raise ArchiveError(_rejection(failed.get("FailureReason")))
        taken = [str(item.get("ReferencedSOPInstanceUID")) for item in answer.get("ReferencedSOPSequence") or []]
        if instance not in taken and self.holds(study, series, instance) is False:
            raise ArchiveError("rejected without a reason: the archive does not hold it")

    def _page(self, filters: Mapping[str, str], offset: int) -> Any:
        query: dict[str, Any] = {"search_filters": dict(filters), "fields": list(_STUDY_FIELDS)}
        return self._client.search_for_studies(**query, offset=offset, limit=_PAGE)

    def _pictures(self, study: str, series: str) -> Iterator[Any]:
        # As they were stored: an archive that unpacks them may fail, and what is read later knows packed ones.
        yield from self._client.iter_series(study, series, media_types=(("application/dicom", "*"),))

    def _tried(self, ask: Callable[[], _Result]) -> _Result:
        """What is asked for, tried again after a pause where that may help. Raises ArchiveError."""
        pause = self._patience.pause
        for attempt in range(1, self._patience.tries + 1):
            try:
                with self._watch.limit(self._patience.whole):
                    return ask()
            except _TROUBLE as error:
                trouble, again, wait = _judged(error, self._patience)
                if self._watch.ended:
                    reason = f"not done within {self._patience.whole:.0f} s"
                    trouble, again = ArchiveError(reason, down=True), False
                if not again or attempt == self._patience.tries:
                    raise trouble from None
            time.sleep(min(max(pause, wait), self._patience.longest))
            pause *= 2
        raise AssertionError("no try")


class _Answered(ArchiveError):
    """An answer with a status other than success."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class _Unfinished(Exception):
    """Less came than was listed."""


class _Watch(HTTPAdapter):
    """Ends a request that takes too long as a whole: a server may send a byte now and then for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._answer: requests.Response | None = None
        self.ended = False

    def send(self, *given: Any, **named: Any) -> requests.Response:
        self._answer = None
        self._answer = super().send(*given, **named)
        return self._answer

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._end)
        timer.daemon, self.ended = True, False
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        if self._answer is not None:
            self.ended = True
            with suppress(OSError, ValueError):  # it has just come to its end
                self._answer.raw.shutdown()


_PAGE = 200
"""Studies that are asked for at a time."""

_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_DESCRIPTION, _DATE, _MODALITY, _BODY_PART, _PICTURES = "00081030", "00080020", "00080060", "00180015", "00201209"
_STUDY_FIELDS = ("StudyDescription", "StudyDate")
_SERIES_FIELDS = ("Modality", "BodyPartExamined", "NumberOfSeriesRelatedInstances")


def _text(row: Mapping[str, Any], tag: str) -> str:
    """The first value of an element in DICOM's JSON, "" where it has none."""
    values = (row.get(tag) or {}).get("Value") or [""]
    return str(values[0]).strip()


def _number(row: Mapping[str, Any], tag: str) -> int | None:
    text = _text(row, tag)
    return int(text) if text.isascii() and text.isdigit() else None


def _session() -> requests.Session:
    session = requests.Session()
    user, password, token = (os.environ.get(name) for name in (USER, PASSWORD, TOKEN))
    if token:
        session.auth = _Bearer(token)
    elif user is not None and password is not None:
        session.auth = (user, password)
    session.headers["Accept"] = _JSON  # of the answer to an object that was sent
    return session


class _Bearer(requests.auth.AuthBase):
    """As an authentication of the session, netrc does not replace it, and a redirect to another host drops it."""

    def __init__(self, token: str):
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def check_credentials(*urls: str | None) -> None:
    """Raise InputError if credentials of the environment would go to two hosts."""
    hosts = {urlsplit(url).netloc for url in urls if url}
    if len(hosts) > 1 and any(os.environ.get(name) for name in (USER, PASSWORD, TOKEN)):
        problem, expected = "credentials in the environment, and two hosts", "credentials by host"
        raise InputError(f"{USER}, {TOKEN}", problem, expected, "Put them into ~/.netrc, and unset the variables.")


def _client(url: str, session: requests.Session, wait: tuple[float, float]) -> Any:
    try:
        from dicomweb_client import DICOMwebClient
    except ImportError as error:
        remedy = 'Install it: pip install ".[dicomweb]"'
        raise InputError("dicomweb-client", "not installed", "the extra for DICOMweb", remedy) from error
    client = DICOMwebClient(url, session, permissive_uid=True, timeout=wait)
    client.set_http_retry_params(retry=False)  # it would try again for some answers only, and for no lost connection
    return client


_TROUBLE: tuple[type[Exception], ...] = (
    *(requests.RequestException, _Unfinished, ValueError, KeyError, EOFError, TypeError, AttributeError),
    *(struct.error, NotImplementedError),
)
"""What comes of requests, of JSON, XML or multipart that is none, and of parts that are no DICOM."""


def _judged(error: Exception, patience: Patience) -> tuple[ArchiveError, bool, float]:
    """The error in words, whether to ask again, and the seconds to wait that the server names."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _answered(error.response)
    if isinstance(error, requests.exceptions.SSLError):
        return ArchiveError("its certificate is not trusted", down=True), False, 0.0
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return ArchiveError(f"no byte within {patience.silence:.0f} s", down=True), True, 0.0
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return ArchiveError("the connection was cut"), True, 0.0
    if isinstance(error, requests.ConnectionError):
        return ArchiveError("no connection", down=True), True, 0.0
    if isinstance(error, _Unfinished):
        return ArchiveError(str(error)), True, 0.0
    return ArchiveError(f"an answer that is no DICOMweb ({type(error).__name__})"), True, 0.0


def _answered(response: requests.Response) -> tuple[ArchiveError, bool, float]:
    status = response.status_code
    wait = response.headers.get("Retry-After", "")
    seconds = float(wait) if wait.isascii() and wait.isdigit() else 0.0
    reason = f"the answer {status}"
    if status in _PERMISSION:
        reason += f", no permission: see {USER}, {TOKEN} and ~/.netrc"
    elif response.request.method == "POST" and status not in _AGAIN:
        reason = f"{_rejection(_failure_reason(response))} (the answer {status})"
    return _Answered(status, reason), status in _AGAIN, seconds


def _failure_reason(response: requests.Response) -> Any:
    """FailureReason of an answer in DICOM's JSON, or None."""
    try:
        return response.json()["00081198"]["Value"][0]["00081197"]["Value"][0]
    except (LookupError, TypeError, ValueError):
        return None


def _rejection(code: Any) -> str:
    if not isinstance(code, int):
        return "rejected without a reason"
    return f"rejected, 0x{code:04X}: {_REJECTED.get(code, 'see FailureReason in the manual of the archive')}"
