"""Every border has a limit on count and bytes, and every number of a scan's geometry one on its size."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests

import cirrnb
from cirrnb.data import csv_file, csv_text
from cirrnb.data.download import transfer
from cirrnb.data.download.transfer import CIRRMRI600, look_up
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.nifti.reading import read_header, read_volume

VOXELS = np.arange(7 * 8 * 9, dtype=np.int16).reshape(7, 8, 9)
SHEARED = np.array([[1, 0.999, 0, 0], [0, 0.01, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
FAR = np.array([[1, 0, 0, 1e30], [0, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])


def scan(path: Path, affine: np.ndarray, voxels: np.ndarray = VOXELS) -> Path:
    image = nib.Nifti1Image(voxels, None)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    "affine",
    [
        *(np.diag([size, size, size, 1.0]) for size in (1e30, 1e5, 1e-3, 1e-12)),
        np.diag([1, 1, 1e4, 1.0]),
        np.diag([1, 1, 1e-3, 1.0]),
        np.diag([1e6, 1e-6, 1, 1.0]),
        SHEARED,
        FAR,
    ],
    ids=["1e30 mm", "100 m", "1 um", "tiny", "slices 10 m apart", "thin slices", "needles", "sheared", "far away"],
)
def test_a_geometry_that_no_patient_has_is_refused(tmp_path: Path, affine: np.ndarray) -> None:
    path = scan(tmp_path / "a.nii.gz", affine)
    for read in (read_header, read_volume):
        with pytest.raises(InputError) as raised:
            read(path)
        assert raised.value.where == str(path)


@pytest.mark.parametrize("size", [0.1, 30.0])
def test_a_geometry_at_the_edge_is_read(tmp_path: Path, size: float) -> None:
    tilted = np.array([[1, 0, 0, -300], [0, 0.87, -0.5, 900], [0, 0.5, 0.87, 0], [0, 0, 0, 1.0]])
    tilted[:3, :3] *= size
    assert read_volume(scan(tmp_path / "a.nii.gz", tilted))[1].shape == (7, 8, 9)


@pytest.mark.parametrize("piece", [b"", b"\0"], ids=["empty", "one byte"])
def test_gzip_in_endless_pieces_is_refused(tmp_path: Path, piece: bytes) -> None:
    path = tmp_path / "a.nii.gz"
    whole = scan(tmp_path / "whole.nii", np.eye(4)).read_bytes()
    path.write_bytes(gzip.compress(whole[:352]) + gzip.compress(piece) * 100_000 + gzip.compress(whole[352:]))
    began = time.monotonic()
    if piece:
        large = scan(tmp_path / "large.nii", np.eye(4), np.zeros((100, 100, 30), np.int16)).read_bytes()
        path.write_bytes(gzip.compress(large[:352]) + gzip.compress(piece) * 600_000)
    with pytest.raises(InputError) as raised:
        read_volume(path)
    assert raised.value.where == str(path) and time.monotonic() - began < 20


def test_gzip_in_blocks_is_read(tmp_path: Path) -> None:
    whole = scan(tmp_path / "whole.nii", np.eye(4)).read_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(gzip.compress(whole[start : start + 64]) for start in range(0, len(whole), 64)))
    assert np.array_equal(read_volume(path)[0], VOXELS)


@pytest.mark.parametrize(
    "text",
    [
        "patient,sequence,image," + ",".join(f"c{number}" for number in range(100_000)) + "\na,T1W,0.nii.gz\n",
        "patient,sequence,image," + "x," * 100_000 + "\na,T1W,0.nii.gz\n",
        "patient,sequence,image\n" + '"' + "a" * (csv_text.MAX_BYTES + 1),
    ],
    ids=["columns", "repeated columns", "bytes"],
)
def test_a_table_without_end_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scans.csv"
    path.write_text(text)
    began = time.monotonic()
    with pytest.raises(InputErrors) as raised:
        cirrnb.read_cohort(path)
    assert raised.value.errors[0].where == str(path) and time.monotonic() - began < 10


def test_rows_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "MAX_ROWS", 10)
    path = tmp_path / "scans.csv"
    path.write_text("patient,sequence,image\n" + "a,T1W,0.nii.gz\n" * 11)
    with pytest.raises(InputErrors) as raised:
        cirrnb.read_cohort(path)
    assert raised.value.errors[0].where == str(path)


@contextmanager
def answering(send: Callable[[BaseHTTPRequestHandler], None]) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                send(self)
            except OSError:
                return  # the client has hung up

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


SENT: list[int] = []


def fast(handler: BaseHTTPRequestHandler) -> None:
    while True:
        SENT.append(handler.wfile.write(b" " * 2**16))


def slow(handler: BaseHTTPRequestHandler) -> None:
    while True:
        handler.wfile.write(b" " * 2**14)
        time.sleep(0.1)


@pytest.mark.parametrize(("send", "seconds"), [(fast, transfer.MAX_SECONDS), (slow, 2)])
def test_a_listing_without_end_is_given_up(send, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_SECONDS", seconds)  # what is fast ends by its bytes, what is slow by the clock
    with answering(send) as url, requests.Session() as session:
        began = time.monotonic()
        SENT.clear()
        with pytest.raises(InputError) as raised:
            look_up(replace(CIRRMRI600, listing=url), session, (5.0, 5.0))
        assert raised.value.where == url and time.monotonic() - began < 10
        assert sum(SENT) < 8 * transfer.MAX_LISTING  # what lies in the sockets is sent in vain


@pytest.mark.parametrize("size", [0, -1, True, "5", 1e99, 10**18])
def test_a_listing_with_an_impossible_size_is_refused(size: object) -> None:

    name = next(iter(CIRRMRI600.archives))
    told = {"kind": "file", "name": name, "size": size, "extra": {"hashes": {"sha256": "0" * 64}}}
    page = {"data": [{"attributes": told, "links": {"download": "http://127.0.0.1:9/"}}], "links": {}}
    with (
        answering(lambda handler: handler.wfile.write(json.dumps(page).encode()) and None) as url,
        requests.Session() as session,
        pytest.raises(InputError),
    ):
        look_up(replace(CIRRMRI600, listing=url, archives={name: None}), session, (5.0, 5.0))
