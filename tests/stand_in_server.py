"""A local server in the place of OSF: lists archives, and serves them well or badly as a test wants."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OK, IGNORES_RANGE, STALLS, LIES, REFUSES, ELSEWHERE, MORE = (
    "ok",
    "ignores range",
    "stalls",
    "lies",
    "503",
    "else",
    "more",
)


class StandIn:
    """What the server holds (`files`), how it behaves (`acts`: for each request of an archive one word, or a number of
    bytes after which it cuts; well once they are used up), and what it was asked (`asked`: the Range of each)."""

    def __init__(self, files: dict[str, bytes]):
        self.files, self.acts, self.asked = files, [], []  # type: dict[str, bytes], list[Any], list[str | None]
        self.listed: dict[str, str] = {}
        self.url = ""
        self.released = threading.Event()

    def listing(self) -> dict[str, Any]:
        entries = [
            {
                "attributes": {
                    "kind": "file",
                    "name": name,
                    "size": len(data),
                    "extra": {"hashes": {"sha256": self.listed.get(name, hashlib.sha256(data).hexdigest())}},
                },
                "links": {"download": f"{self.url}/file/{name}"},
            }
            for name, data in self.files.items()
        ]
        return {"data": entries, "links": {"next": None}}


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[StandIn]:
    stand_in = StandIn(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/listing":
                self._send(200, json.dumps(stand_in.listing()).encode())
                return
            asked = self.headers.get("Range")
            stand_in.asked.append(asked)
            act = stand_in.acts.pop(0) if stand_in.acts else OK
            self._serve(stand_in.files[self.path.rsplit("/", 1)[-1]], int(asked[6:-1]) if asked else 0, act)

        def _serve(self, data: bytes, start: int, act: Any) -> None:
            if act == REFUSES:
                self._send(503, b"")
                return
            start = 0 if act == IGNORES_RANGE else start + 5 if act == ELSEWHERE else start
            data = bytes(len(data)) if act == LIES else data + bytes(99) * (act == MORE)
            body, total = data[start:], len(data)
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if isinstance(act, int):
                self.wfile.write(body[:act])
                self.close_connection = True
            elif act == STALLS:
                self.wfile.write(body[:50_000])
                self.wfile.flush()
                stand_in.released.wait(20)
                self.close_connection = True
            else:
                self.wfile.write(body)

        def _send(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
