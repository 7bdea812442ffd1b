"""The archive Orthanc with its DICOMweb plugin, on free ports of 127.0.0.1, until the block ends."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

PLUGINS = Path("/usr/share/orthanc/plugins")
USER, PASSWORD = "night", "s3cret-Ynqx"

MISSING = "Orthanc is not installed: apt-get install orthanc orthanc-dicomweb"


def program() -> str | None:
    """Orthanc, or None where it or its plugin is not installed."""
    there = any(PLUGINS.glob("*DicomWeb*"))
    return (shutil.which("Orthanc") or shutil.which("orthanc")) if there else None


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Orthanc:
    """A server that runs: `url` of its DICOMweb service, and what it holds."""

    def __init__(self, base: str):
        self.base, self.url = base, f"{base}/dicom-web"
        self.session = requests.Session()
        self.session.auth = (USER, PASSWORD)

    def put(self, content: bytes) -> None:
        self.session.post(f"{self.base}/instances", data=content, timeout=60).raise_for_status()

    def instances(self) -> dict[str, dict[str, str]]:
        """SOPInstanceUID -> tags of each object."""
        found = {}
        for one in self._get("/instances?expand&requestedTags=Modality"):
            tags = one["MainDicomTags"]
            series = self._get(f"/series/{one['ParentSeries']}")["MainDicomTags"]
            found[tags["SOPInstanceUID"]] = {**tags, "Modality": series["Modality"], "id": one["ID"]}
        return found

    def file(self, instance: str) -> bytes:
        answer = self.session.get(f"{self.base}/instances/{instance}/file", timeout=60)
        answer.raise_for_status()
        return answer.content

    def changes(self) -> list[dict[str, Any]]:
        """All that was stored since it began, in turn, also what replaced something."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._get(f"/changes?limit=1000&since={found[-1]['Seq'] if found else 0}")
            found += page["Changes"]
            if page["Done"]:
                # A minute after its last instance a series is called stable, which stores nothing.
                return [change for change in found if not change["ChangeType"].startswith("Stable")]

    def _get(self, path: str) -> Any:
        answer = self.session.get(self.base + path, timeout=60)
        answer.raise_for_status()
        return answer.json()


def configuration(folder: Path, port: int, dicom_port: int) -> dict[str, Any]:
    """Settings of a server that only this machine reaches, and only with a password."""
    return {
        "Name": "rehearsal",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGINS)],
        "HttpPort": port,
        "DicomPort": dicom_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }


@contextmanager
def orthanc(folder: Path, port: int | None = None) -> Iterator[Orthanc]:
    """A server whose objects lie in `folder`; one that is started again there has them still."""
    name = program()
    assert name is not None, MISSING
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(configuration(folder, port, free_port())))
    with (folder / "orthanc.log").open("ab") as log:
        server = subprocess.Popen(
            [name, str(settings)], stdout=log, stderr=log, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
        try:
            running = Orthanc(f"http://127.0.0.1:{port}")
            _wait(running, server)
            yield running
        finally:
            server.terminate()
            server.wait(60)


def _wait(running: Orthanc, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "Orthanc ended; see orthanc.log"
        try:
            if running.session.get(f"{running.base}/system", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError("Orthanc did not start")
