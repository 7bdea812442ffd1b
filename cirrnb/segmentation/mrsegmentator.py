"""MRSegmentator, called as a program of its own: it needs an older torch than this package.

Source: Häntze et al., MRSegmentator: Multi-Modality Segmentation of 40 Classes in MRI and CT, Radiology: Artificial
Intelligence 2025, doi 10.1148/ryai.240777. Command line and classes as of versions 1.2 to 2.0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.nifti.reading import read_header, read_volume

NAME = "MRSegmentator"
LIVER = 5
"""Label of the liver among its classes."""

PROGRAM = "CIRRNB_MRSEGMENTATOR"
"""Environment variable that names the program where it is not on the path."""

PATIENCE = 3600
"""Seconds that one scan may take: without a graphics card it takes many minutes."""

_POSTFIX = "seg"


@dataclass(frozen=True)
class Segmented:
    """Liver masks by key, in each file's own order of axes, and in words what became of the others."""

    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def find_program(named: Path | str | None = None) -> str:
    """The program: `named`, else that of the environment variable, else the one on the path.

    Raises InputError if there is none.
    """
    wanted = named or os.environ.get(PROGRAM)
    program = shutil.which(str(wanted) if wanted else "mrsegmentator")
    if program is None:
        raise InputError(
            "MRSegmentator",
            f"no program {wanted}" if wanted else "no program mrsegmentator on the path",
            "MRSegmentator in an environment of its own (it needs torch 2.10 or older)",
            "python -m venv mrseg && mrseg/bin/pip install mrsegmentator, then --program mrseg/bin/mrsegmentator. Or "
            "go on without it: the package's own segmenter needs no program.",
        )
    return program


def segment(scans: Mapping[str, Path], program: str, options: Sequence[str] = ()) -> Segmented:
    """Segment the liver of every scan (key -> NIfTI file) with one call of MRSegmentator.

    Parameters
    ----------
    options : further words for its command line, such as --fast or --cpu_only.

    Raises
    ------
    InputError
        If the program ends without any mask; the message quotes the last line of its output.
    """
    with tempfile.TemporaryDirectory(prefix="cirrnb-") as private:
        source, target = Path(private) / "scans", Path(private) / "masks"
        source.mkdir()
        target.mkdir()
        # Its output files are named after the input files: neutral names, since ids may hold any text.
        names = {key: f"{place:05d}" for place, key in enumerate(scans)}
        for key, path in scans.items():
            (source / f"{names[key]}{_ending(path)}").symlink_to(path.absolute())
        words = [program, "--input", str(source), "--outdir", str(target), "--postfix", _POSTFIX, *options]
        code, output = _run(words, PATIENCE * len(scans))
        masks, failed = {}, {}
        for key, path in scans.items():
            made = target / f"{names[key]}_{_POSTFIX}{_ending(path)}"
            try:
                masks[key] = _liver(path, made)
            except InputError as error:
                failed[key] = error.found
        if scans and not masks:
            last = output.strip().splitlines()[-1:] or ["nothing"]
            reason = next(iter(failed.values()))
            raise InputError(
                NAME,
                f"no liver mask ({reason}; exit code {code}); its last words: {last[0][:300]}",
                "a mask for each scan",
                "Run the program on one scan by hand, and see what it says.",
            )
        return Segmented(masks, failed)


def _ending(path: Path) -> str:
    return ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"


def _run(words: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Exit code, None if the program was killed, and its output."""
    # Its environment is its own: what points Python at our packages would lead it astray.
    foreign = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    surroundings = {name: value for name, value in os.environ.items() if name not in foreign}
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
            env=surroundings,
        )
    except subprocess.TimeoutExpired as error:
        return None, (error.stdout or b"").decode(errors="replace") + f"\nno end after {seconds:.0f} s"
    except OSError as error:
        raise InputError(
            words[0], f"a program that cannot be run ({error.strerror})", NAME, "Check --program."
        ) from error
    return done.returncode, done.stdout.decode(errors="replace")


def _liver(scan: Path, made: Path) -> NDArray[np.bool_]:
    """The liver among the labels that were made of a scan. Raises InputError where there is none, or elsewhere."""
    if not made.is_file():
        raise InputError(made.name, "nothing made of it", "a segmentation", "")
    labels, grid = read_volume(made)
    if not grid.matches(read_header(scan).grid):
        raise InputError(made.name, "a segmentation on another grid", "the scan's own grid", "")
    liver: NDArray[np.bool_] = labels == LIVER
    if not liver.any():
        raise InputError(made.name, "no liver found in it", "a liver", "")
    return liver
