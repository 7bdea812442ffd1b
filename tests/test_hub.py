"""Models on the Hugging Face hub, served by a local server in its place."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cirrnb.data.errors import InputError
from cirrnb.data.workers import python_command
from cirrnb.model.trained_model import fetch_model, model_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was asked of a hub that has one model, owner/liver, and a file beside it that nobody should fetch."""
    folder = model_folder("shipped")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files["evil.pkl"] = b"cos\nsystem\n."
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            data, headers, status = b"{}", {"X-Repo-Commit": COMMIT}, 404
            if path.startswith("/api/models/owner/liver/tree/"):
                listing = [
                    {"type": "file", "path": name, "size": len(one), "oid": hashlib.sha1(one).hexdigest()}
                    for name, one in files.items()
                ]
                data, status = json.dumps(listing).encode(), 200
            elif path.startswith("/api/models/owner/liver"):
                told = {"id": "owner/liver", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                data, status = json.dumps(told).encode(), 200
            elif path.startswith("/owner/liver/resolve/") and path.split("/", 5)[5] in files:
                data, status = files[path.split("/", 5)[5]], 200
                headers |= {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            else:
                headers["X-Error-Code"] = "RepoNotFound"
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hub")}
    for name, value in {**environment, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(name, value)
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()


LOAD = """
import sys
from cirrnb.data.errors import InputError
from cirrnb.data.workers import python_command
from cirrnb.model.trained_model import load_model
for name in sys.argv[1:]:
    try:
        found = load_model(name)
        print(found.name, found.fingerprint)
    except InputError as error:
        print("refused:", error)
"""


def load(*names: str) -> list[str]:
    """What loading models prints, in a process of its own: the hub's library reads its settings when imported."""
    done = subprocess.run(python_command("-c", LOAD, *names), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_model_on_the_hub_is_the_same_model_and_the_cache_serves_without_a_net(
    hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, shipped, refused = load("hf:owner/liver", f"hf:owner/liver@{COMMIT}", "shipped", "hf:nobody/nothing")
    assert first.split()[0] == "owner/liver" and first.split()[1] == second.split()[1] == shipped.split()[1]
    assert refused.startswith("refused: hf:nobody/nothing") and "HF_TOKEN" in refused
    fetched = [path for path in hub if "/resolve/" in path]
    assert fetched and not any("evil" in path for path in fetched)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    again, refused = load("hf:owner/liver", "hf:owner/another")
    assert again == first and refused.startswith("refused: hf:owner/another")


@pytest.mark.parametrize("name", ["hf:../../etc", "hf:owner", "hf:", "hf:owner/li ver", "hf:a/b/c", "hf:owner/--"])
def test_what_is_no_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError) as caught:
        fetch_model(name)
    assert name in str(caught.value) and "\n" not in str(caught.value)
