"""The server of explorer and course: who it answers, what it executes, and what its pages may load."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from jupyter_server.base.websocket import WebSocketMixin
from nbformat import v4, write
from offline_browser import CHROMIUM, FLAGS, PATIENCE
from stub_modules import stub_folder
from voila.app import Voila

from cirrnb.data.errors import InputError
from cirrnb.data.workers import python_command
from cirrnb.run import serving
from cirrnb.run.guarded_server import HEADERS, TOKEN, Server

SERVE = """
import sys
from pathlib import Path
from cirrnb.run.serving import serve
tell = lambda said: print(said, flush=True)
raise SystemExit(serve(Path(sys.argv[1]), {}, "The page", port=0, browser=False, tell=tell))
"""
KERNEL = "00000000-0000-0000-0000-000000000000"
PATHS = ("/", "/voila/static/x", "/voila/templates/lab/static/voila.js", f"/api/kernels/{KERNEL}", "/voila/files/x")
SOCKET = f"/api/kernels/{KERNEL}/channels"
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@dataclass
class Site:
    """A running server: its port and token, a valid cookie, and the list of executed stubs."""

    port: int
    token: str
    executed: Path
    pid: int
    log: Path
    cookie: str = ""

    def ask(self, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, Any, str]:
        """Status, headers and text of an answer; a Host header that is handed in replaces the real one."""
        headers = {"Host": f"127.0.0.1:{self.port}", **(headers or {})}
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            line.putrequest(method, path, skip_host=True)
            for name, value in headers.items():
                line.putheader(name, value)
            line.endheaders()
            answer = line.getresponse()
            text = "" if answer.status == 101 else answer.read().decode()
            return answer.status, answer.headers, text
        finally:
            line.close()


def test_an_idle_page_stays_connected(monkeypatch):
    """Jupyter drops a connection whose last pong is older than the time limit; the next comes after one interval."""
    monkeypatch.setenv(TOKEN, "token")
    monkeypatch.setattr(Voila, "init_settings", lambda self: {})
    socket = WebSocketMixin()
    socket.settings = Server().init_settings()
    assert socket.ping_interval == 0 or socket.ping_timeout > socket.ping_interval


def first_cookie(site: Site, process: subprocess.Popen[str]) -> str:
    """What the server gives for its token, once it answers."""
    while process.poll() is None:
        try:
            return site.ask(f"/?token={site.token}")[1]["Set-Cookie"].split(";")[0]
        except OSError:
            time.sleep(0.3)
    raise AssertionError("the server ended")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Generator[Site]:
    folder = tmp_path_factory.mktemp("present")
    executed = stub_folder(folder)
    cell = v4.new_code_cell("import random, pandas\nprint('told by', 'the kernel')")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = v4.new_notebook(cells=[cell], metadata=kernel)
    source = tmp_path_factory.mktemp("source") / "page.ipynb"
    write(notebook, source)
    scratch = tmp_path_factory.mktemp("scratch")
    log = tmp_path_factory.mktemp("log") / "stderr"
    process = subprocess.Popen(
        python_command("-c", SERVE, str(source)),
        cwd=folder,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
    )
    try:
        address = urlsplit(re.search(r"http://\S+", process.stdout.readline()).group())
        made = Site(address.port, address.query.removeprefix("token="), executed, process.pid, log)
        made.cookie = first_cookie(made, process)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, 143)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("path", [*PATHS, SOCKET])
@pytest.mark.parametrize(
    "change",
    [
        {"Cookie": ""},
        {"Cookie": "cirrnb-{port}=1"},
        {"Host": "rebound.example:{port}"},
        {"Host": "127.0.0.1.rebound.example:{port}"},
        {"Host": "localhost.rebound.example:{port}"},
        {"Host": "[::1]x"},
        {"Origin": "http://rebound.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
    ],
    ids=lambda change: "-".join(next(iter(change.items()))),
)
def test_strangers_are_refused(site: Site, path: str, change: dict[str, str]) -> None:
    headers = {"Cookie": site.cookie, **(UPGRADE if path == SOCKET else {})}
    headers |= {name: value.format(port=site.port) for name, value in change.items()}
    status, answer, text = site.ask(path, headers)
    assert status == 403 and site.token not in text
    assert {name: answer[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("token", ["", "x", "\u00e9"])
def test_a_wrong_token_is_refused(site: Site, token: str) -> None:
    assert site.ask(f"/?token={quote(token)}")[0] == 403


def test_whoever_has_the_token_sees_the_page_and_nothing_of_the_present_folder_runs(site: Site) -> None:
    status, headers, _ = site.ask(f"/?token={site.token}", {"Host": f"localhost:{site.port}"})
    assert status == 302 and headers["Location"] == "/" and "HttpOnly" in headers["Set-Cookie"]
    status, headers, text = site.ask("/", {"Cookie": site.cookie})
    assert status == 200 and "told by the kernel" in text
    assert "no-store" in headers["Cache-Control"]
    assert headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]
    assert not re.findall(r'(?:src|href)="?(?:https?:)?//', text)
    assert not site.executed.exists(), site.executed.read_text()


def test_what_kernels_publish_reaches_no_other_account(site: Site) -> None:
    psutil, zmq = pytest.importorskip("psutil"), pytest.importorskip("zmq")
    heard = zmq.Context().socket(zmq.SUB)
    heard.setsockopt(zmq.SUBSCRIBE, b"")
    for _ in range(2):  # the first page starts a kernel, the second one would be listened to
        assert site.ask("/", {"Cookie": site.cookie})[0] == 200
        family = psutil.Process(site.pid).children(recursive=True)
        assert len(family) >= 2, "the server and a kernel"
        for process in family:
            for line in process.net_connections("tcp"):
                if line.status == "LISTEN" and line.laddr.port != site.port:
                    heard.connect(f"tcp://127.0.0.1:{line.laddr.port}")
    kernels = [process for process in family if any(part.endswith(".json") for part in process.cmdline())]
    sockets = [Path(part) for process in kernels for part in process.cmdline() if part.endswith(".json")]
    assert sockets and all(file.parent.stat().st_mode & 0o077 == 0 for file in sockets)
    assert heard.poll(1500) == 0
    published = [json.loads(file.read_text())["transport"] for file in sockets if file.exists()]
    assert published and set(published) == {"ipc"}


def test_a_page_that_is_left_ends_its_kernel(site: Site) -> None:
    """By a POST that browsers send with the page's origin, and that nobody else can send."""
    psutil = pytest.importorskip("psutil")

    def kernels() -> set[int]:
        family = psutil.Process(site.pid).children(recursive=True)
        return {one.pid for one in family if any(part.endswith(".json") for part in one.cmdline())}

    before = kernels()
    _, _, text = site.ask("/", {"Cookie": site.cookie})
    kernel = re.search(r'"kernelId": *"([\w-]+)"', text)[1]
    assert kernels() - before
    path, origin = f"/voila/api/shutdown/{kernel}", f"http://127.0.0.1:{site.port}"
    for wrong in (
        {},
        {"Cookie": site.cookie},
        {"Origin": origin},
        {"Cookie": site.cookie, "Origin": "http://x.example"},
    ):
        assert site.ask(path, {**wrong, "Content-Length": "0"}, "POST")[0] == 403
    assert site.ask(path, {"Cookie": site.cookie, "Origin": origin, "Content-Length": "0"}, "POST")[0] == 204
    assert not kernels() - before


def test_documentation_is_served_to_whoever_has_the_cookie(site: Site) -> None:
    status, headers, text = site.ask("/docs/glossary.md", {"Cookie": site.cookie})
    assert status == 200 and "<h1" in text and headers["Content-Type"].startswith("text/html")
    assert site.ask("/docs/glossary.md")[0] == 403
    assert site.ask("/docs/nothing.md", {"Cookie": site.cookie})[0] == 404


def test_the_token_stands_in_no_log(site: Site) -> None:
    for path in ("/voila/static/nothing", "/voila/files/x", "/a/b", "/logout"):
        site.ask(f"{path}?token={site.token}")
    assert site.token not in site.log.read_text()


@pytest.mark.parametrize("path", ["http://evil.example/", "/nothing/at/all"])
def test_what_no_handler_serves_is_guarded_too(site: Site, path: str) -> None:
    status, headers, _ = site.ask(path)
    assert status == 403 and headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/logout", "/login"])
def test_nobody_logs_in_or_out(site: Site, path: str) -> None:
    status, headers, _ = site.ask(path, {"Cookie": site.cookie})
    assert status in (302, 404) and headers.get("Location", "/").startswith("/")


@pytest.mark.parametrize("path", ["/voila/files/nothing", "/voila/static/nothing", f"/api/kernels/{KERNEL}", "/a/b"])
def test_an_error_loads_nothing(site: Site, path: str) -> None:
    _, headers, text = site.ask(path, {"Cookie": site.cookie})
    assert "<" not in text and "//" not in text
    assert headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


@pytest.mark.browser
def test_a_name_that_is_pointed_to_this_machine_shows_nothing(site: Site) -> None:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium")
    with api.sync_playwright() as playwright:
        rebound = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*FLAGS, rebound])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        # Even where the browser has been given the cookie, and where the token is known.
        page.goto(f"http://127.0.0.1:{site.port}/?token={site.token}")
        assert "told by the kernel" in page.content() and page.url == f"http://127.0.0.1:{site.port}/"
        for query in ("", f"?token={site.token}"):
            assert page.goto(f"http://rebound.example:{site.port}/{query}").status == 403
        fetched = page.evaluate(
            """async (port) => {
                const opened = await new Promise(done => {
                    const socket = new WebSocket(`ws://127.0.0.1:${port}/api/kernels/none-a-b-c-d/channels`);
                    socket.onopen = () => done("open"); socket.onerror = () => done("refused");
                });
                const read = await fetch(`http://127.0.0.1:${port}/`, {credentials: "include"}).then(
                    answer => answer.text(), () => "refused");
                return [opened, read];
            }""",
            site.port,
        )
        assert fetched == ["refused", "refused"]
        browser.close()


def test_a_taken_port_is_told_before_anything_is_read_and_without_a_wish_another_is_taken(monkeypatch):
    monkeypatch.setattr(serving, "_make_ready", lambda values, tell: pytest.fail("the scans were prepared first"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(InputError, match="in use"):
            serving.explore({}, port=taken, browser=False)
        monkeypatch.setattr(serving, "PORT", taken)
        told: list[str] = []
        chosen = serving.choose_port(None, told.append)
        assert chosen not in (0, taken) and str(taken) in told[0] and str(chosen) in told[0]
    assert serving.choose_port(None, told.append) == taken and len(told) == 1
