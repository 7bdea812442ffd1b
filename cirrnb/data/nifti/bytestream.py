"""A file's bytes in order, unpacked if need be, with an end to what a damaged or hostile file can ask for."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from types import TracebackType

from cirrnb.data.errors import InputError

BLOCK = 2**20
"""Bytes of a packed file taken at a time."""

MAX_MEMBERS = 20_000
"""Most gzip members of a file: bgzip begins one for each 64 kB, so that the largest scan has half as many."""

SAVE_AGAIN = "Copy or download the file again, or export it again from its source."
"""Remedy for a file that was damaged on its way."""


class ByteStream:
    """A file's bytes in order, unpacked if it is gzip, whatever its name.

    zlib itself verifies gzip's checksum once the end is reached, and is faster than the gzip module, which
    passes small pieces through Python.
    """

    def __init__(self, path: Path):
        self._path, self.position, self._members = path, 0, 1
        try:
            self._file = path.open("rb")
            self.compressed = self._file.peek(2)[:2] == b"\x1f\x8b"
        except OSError as error:
            raise self._unreadable(error) from error
        self._unpacker = zlib.decompressobj(wbits=31)

    def __enter__(self) -> ByteStream:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only where the file ends."""
        try:
            data = self._unpack(size) if self.compressed else self._file.read(size)
        except OSError as error:
            raise self._unreadable(error) from error
        except zlib.error as error:
            raise InputError(
                self._path, f"damaged gzip data ({error})", "gzip data that unpacks", SAVE_AGAIN
            ) from error
        self.position += len(data)
        return data

    def finish(self) -> None:
        """Read on to gzip's checksum, so that damaged voxels are told; a long tail is left alone."""
        if self.compressed and not self._unpacker.eof and len(self.read(BLOCK)) < BLOCK and not self._unpacker.eof:
            raise InputError(self._path, "gzip data that is cut short", "gzip data up to its checksum", SAVE_AGAIN)

    def _unpack(self, size: int) -> bytes:
        pieces = io.BytesIO()
        while (missing := size - pieces.tell()) > 0:
            if self._unpacker.eof:  # gzip files may be several members one after the other
                rest = self._unpacker.unused_data or self._file.read(BLOCK)
                if not rest.startswith(b"\x1f\x8b"):
                    break
                self._members += 1
                if self._members > MAX_MEMBERS:
                    found = f"gzip data in more than {MAX_MEMBERS} pieces"
                    raise InputError(self._path, found, "one piece, or blocks of 64 kB", SAVE_AGAIN)
                self._unpacker = zlib.decompressobj(wbits=31)
            else:
                rest = self._unpacker.unconsumed_tail or self._file.read(BLOCK)
            pieces.write(self._unpacker.decompress(rest, missing))
            if not rest and not self._unpacker.eof:
                break
        return pieces.getvalue()

    def _unreadable(self, error: OSError) -> InputError:
        if isinstance(error, FileNotFoundError):
            return InputError(self._path, "no such file", "a NIfTI file", "Correct the path or restore the file.")
        return InputError(
            self._path,
            f"a file that cannot be opened ({error.strerror or error})",
            "a readable NIfTI file",
            "Check the file's rights and the disk.",
        )
