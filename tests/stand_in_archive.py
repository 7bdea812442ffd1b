"""A local server in the place of an archive that speaks DICOMweb; it answers well, or badly as a test wants."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import dcmread

LIST, SERIES, OBJECTS, FETCH, STORE = "list", "series", "objects", "fetch", "store"
"""What it is asked for."""
STALLS, CUTS, DRIPS, HTML, LESS, OTHER, REJECTS, LIES = (
    "stalls",
    "cuts",
    "drips",
    "html",
    "less",
    "other",
    "409",
    "lies",
)
"""What it may do instead of what it should. A number is an answer with this status."""

_BOUNDARY = "stand-in"


@dataclass
class Held:
    """One object."""

    study: str
    series: str
    content: bytes
    modality: str
    body_part: str
    description: str
    date: str


class StandIn:
    """What the archive holds by SOPInstanceUID (`objects`), the odd things it does (`acts`, of each verb in turn; or
    `always`), what it was asked (`asked`), how often each object was sent to it (`sent`), and the value of the header
    Authorization without which it answers 401 (`needs`)."""

    def __init__(self) -> None:
        self.objects: dict[str, Held] = {}
        self.acts: dict[str, list[Any]] = {}
        self.always: dict[str, Any] = {}
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.headers: list[str | None] = []
        self.needs: str | None = None
        self.url = ""
        self.released = threading.Event()

    def add(self, paths: Iterable[Path], **listed: str) -> None:
        """Put files into the archive; `listed` is said of them in its lists."""
        for path in paths:
            self.keep(path.read_bytes(), **listed)

    def keep(self, content: bytes, **listed: str) -> str:
        data = dcmread(BytesIO(content), stop_before_pixels=True)
        own = {"modality": data.Modality, "body_part": "", "description": "", "date": str(data.get("StudyDate") or "")}
        uids = str(data.StudyInstanceUID), str(data.SeriesInstanceUID)
        self.objects[str(data.SOPInstanceUID)] = Held(*uids, content, **(own | listed))
        return str(data.SOPInstanceUID)

    def of_kind(self, *modalities: str) -> list[str]:
        return sorted(uid for uid, held in self.objects.items() if held.modality in modalities)

    def act(self, verb: str) -> Any:
        self.asked[verb] += 1
        turn = self.acts.get(verb)
        return turn.pop(0) if turn else self.always.get(verb)


@contextmanager
def archive() -> Iterator[StandIn]:
    """An archive on a free port of this machine until the block ends."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path = urlsplit(self.path)
            asked = {name: values[-1] for name, values in parse_qs(path.query).items()}
            uids = re.findall(r"/(?:studies|series|instances)/([^/]+)", path.path)
            last = path.path.rsplit("/", 1)[-1]
            verb = {"studies": LIST, "series": SERIES, "instances": OBJECTS}.get(last, FETCH)
            if (act := self._odd(verb)) is self.DONE:
                return
            if verb == FETCH:
                self._fetch(*uids, act)
            else:
                rows = {LIST: studies, SERIES: series, OBJECTS: objects}[verb](stand_in, asked, *uids)
                self._answer(200, json.dumps(rows).encode(), act=act)

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(self._chunks())
            else:
                body = self.rfile.read(int(self.headers["Content-Length"]))
            if (act := self._odd(STORE)) is self.DONE:
                return
            boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
            assert boundary is not None
            parts = re.split(rb"(?:\r\n)?--" + re.escape(boundary[1].encode()), body)[1:-1]
            stored = [content.partition(b"\r\n\r\n")[2] for content in parts]
            uids = [str(dcmread(BytesIO(content), stop_before_pixels=True).SOPInstanceUID) for content in stored]
            stand_in.sent.update(uids)
            if act == REJECTS:
                failed = [{"00081197": {"vr": "US", "Value": [0xA900]}}]
                self._answer(409, json.dumps({"00081198": {"vr": "SQ", "Value": failed}}).encode())
                return
            if act != LIES:
                for content in stored:
                    stand_in.keep(content)
            done = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
            answer = {} if act == LIES else {"00081199": {"vr": "SQ", "Value": done}}
            self._answer(200, json.dumps(answer).encode(), act=act)

        DONE = object()

        def _odd(self, verb: str) -> Any:
            """What to do, or DONE where that was all."""
            stand_in.headers.append(self.headers.get("Authorization"))
            if stand_in.needs is not None and stand_in.headers[-1] != stand_in.needs:
                self._answer(401, b"Patient^Number0 is none of your business")
                return self.DONE
            act = stand_in.act(verb)
            if isinstance(act, int):
                self._answer(act, b"Patient^Number0 cannot be found now")
            elif act == STALLS:
                stand_in.released.wait(30)
                self.close_connection = True
            elif act == HTML:
                self._answer(200, b"<html>Patient^Number0, please log in</html>", "text/html")
            else:
                return act
            return self.DONE

        def _fetch(self, study: str, series: str, act: Any = None) -> None:
            own = [held for held in stand_in.objects.values() if (held.study, held.series) == (study, series)]
            if act == OTHER:
                own = [held for held in stand_in.objects.values() if held.study != study]
            elif act == LESS:
                own = own[1:]
            kind = "\r\nContent-Type: application/dicom\r\n\r\n"
            body = b"".join(f"\r\n--{_BOUNDARY}{kind}".encode() + held.content for held in own)
            body += f"\r\n--{_BOUNDARY}--\r\n".encode()
            self._answer(200, body, f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}', act)

        def _answer(self, status: int, body: bytes, kind: str = "application/dicom+json", act: Any = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if act == DRIPS:
                for place in range(len(body)):
                    if stand_in.released.wait(0.02):
                        break
                    self.wfile.write(body[place : place + 1])
            else:
                self.wfile.write(body[: len(body) // 2] if act == CUTS else body)
            self.close_connection = self.close_connection or act in (CUTS, DRIPS)

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: Any) -> None:
            """Whoever asked is gone."""

    server = Server(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def studies(stand_in: StandIn, asked: dict[str, str], *uids: str) -> list[Any]:
    """As QIDO-RS lists them, by modality and range of dates."""
    first, _, last = asked.get("StudyDate", "").partition("-")
    rows = {}
    for held in stand_in.objects.values():
        matches = asked.get("ModalitiesInStudy", held.modality) == held.modality
        if matches and (first or held.date) <= held.date <= (last or first or held.date):
            texts = {"0020000D": held.study, "00081030": held.description, "00080020": held.date}
            rows[held.study] = {tag: {"vr": "UI", "Value": [text]} for tag, text in texts.items() if text}
    begin = int(asked.get("offset", 0))
    return list(rows.values())[begin : begin + int(asked.get("limit", 100))]


def series(stand_in: StandIn, asked: dict[str, str], study: str) -> list[Any]:
    counts = Counter(
        (held.series, held.modality, held.body_part) for held in stand_in.objects.values() if held.study == study
    )
    return [
        {
            "0020000D": {"vr": "UI", "Value": [study]},
            "0020000E": {"vr": "UI", "Value": [uid]},
            "00080060": {"vr": "CS", "Value": [modality]},
            "00201209": {"vr": "IS", "Value": [number]},
            **({"00180015": {"vr": "CS", "Value": [body_part]}} if body_part else {}),
        }
        for (uid, modality, body_part), number in counts.items()
    ]


def objects(stand_in: StandIn, asked: dict[str, str], study: str, one: str) -> list[Any]:
    wanted = asked.get("SOPInstanceUID")
    return [
        {"00080018": {"vr": "UI", "Value": [uid]}}
        for uid, held in stand_in.objects.items()
        if (held.study, held.series) == (study, one) and uid == (wanted or uid)
    ]
