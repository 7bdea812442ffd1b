"""A dataset as nnU-Net keeps it: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, and dataset.json with the channels.

Source: Isensee et al., Nature Methods 18, 203 (2021), doi 10.1038/s41592-020-01008-z; versions 1 and 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cirrnb.data.errors import InputError, Remarks, listed
from cirrnb.data.json_file import read_object
from cirrnb.data.layouts import fields
from cirrnb.data.scan import Scan
from cirrnb.data.sequence_words import read_name

FOLDERS = {"imagesTr": ("labelsTr", "train"), "imagesTs": ("labelsTs", "test")}
"""Folders of images -> the folder of their labels, and the split."""
DATASET = "dataset.json"

_FILE = re.compile(r"(?P<case>.+?)(?:_(?P<channel>\d{4}))?\.nii(\.gz)?", re.IGNORECASE)
_NO_LIVER = re.compile(r"background|ignore", re.IGNORECASE)
_CHANNELS = '{"channel_names": {"0": "T1", "1": "T2"}}'
_REMEDY = f"Name the channels in dataset.json, as in {_CHANNELS}, or list the scans in scans.csv."


def looks_nnunet(root: Path) -> bool:
    """True if root holds imagesTr or imagesTs."""
    return any((root / name).is_dir() for name in FOLDERS)


def read_nnunet(root: Path, remarks: Remarks) -> list[Scan]:
    """The scans of an nnU-Net dataset; what is wrong or odd is added to `remarks`.

    A case is a patient. Channels that dataset.json calls T1 or T2 in some way are read, others are noted. The labels of
    a case are its liver mask where dataset.json names the liver and nothing else. Cases are split into train
    (imagesTr) and test (imagesTs) where there are both. Stages are not known.

    Raises InputError if there is no dataset.json that can be read, or it names no channel T1 or T2.
    """
    if not (root / DATASET).is_file():
        raise InputError(root, "an nnU-Net dataset without dataset.json", "the names of its channels", _REMEDY)
    described = read_object(root / DATASET, "a description of the dataset", _REMEDY)
    sequences = _sequences(root, described, remarks)
    masked = _labels_are_livers(described, remarks)
    images = {name: list(_images(root / name, remarks)) for name in FOLDERS}
    both = all(images.values())
    source = fields.source_of(root.resolve().name, "nnunet")
    scans = []
    for folder, (labels, split) in FOLDERS.items():
        masks = {match[1]: path for path in _files(root / labels) if (match := _FILE.fullmatch(path.name))}
        for case, channel, path in images[folder]:
            if channel in sequences:
                mask = masks.get(case) if masked else None
                scans.append(Scan(case, sequences[channel], path, mask, split=split if both else None, source=source))
    unmasked = [scan.name for scan in scans if scan.mask is None]
    if unmasked:
        remarks.notes.append(f"scans without a liver mask: {len(unmasked)} ({listed(unmasked)})")
    remarks.notes.append("an nnU-Net dataset: all patients are unstaged")
    return _once(scans, remarks)


def _sequences(root: Path, described: Mapping[str, Any], remarks: Remarks) -> dict[int, str]:
    """Number of a channel -> sequence, of those that are T1W or T2W."""
    named = described.get("channel_names", described.get("modality"))
    pairs = named.items() if isinstance(named, dict) else ()
    names = {int(number): str(name) for number, name in pairs if str(number).isdecimal()}
    sequences = {}
    others = []
    for number, name in names.items():
        read = read_name(name)
        if read.doubt is None and read.weighting is not None:
            sequences[number] = read.weighting
        else:
            others.append(f"{name} ({read.doubt or 'unknown'})")
    if not sequences:
        problem = f"the channels {', '.join(names.values())}" if names else "no channel_names"
        raise InputError(root / DATASET, problem, "a channel that is T1 or T2", _REMEDY)
    if len(set(sequences.values())) < len(sequences):
        problem = f"several channels of one sequence ({', '.join(names.values())})"
        raise InputError(root / DATASET, problem, "one T1 and one T2 at most", "List the scans in scans.csv.")
    if others:
        remarks.notes.append(f"channels that are not read: {listed(others)}")
    return sequences


def _labels_are_livers(described: Mapping[str, Any], remarks: Remarks) -> bool:
    """True if the liver is the only label; version 1 writes number: name, version 2 name: number."""
    labels = described.get("labels")
    pairs = labels.items() if isinstance(labels, dict) else ()
    names = [str(value if str(key).isdecimal() else key) for key, value in pairs]
    shown = [name for name in names if not _NO_LIVER.fullmatch(name)]
    if len(shown) == 1 and re.search(r"liver", shown[0], re.IGNORECASE):
        return True
    if shown:
        remarks.notes.append(f"labels that are no liver masks, not read: {listed(shown)}")
    return False


def _images(folder: Path, remarks: Remarks) -> Iterator[tuple[str, int, Path]]:
    """Case, number of the channel and path of each image."""
    for path in _files(folder):
        match = _FILE.fullmatch(path.name)
        if match is None:
            remarks.notes.append(f"{folder.name}: not read: {listed([path.name])}")
        elif path.is_symlink() and not path.exists():
            remarks.problems.append(InputError(path, "a link to a file that is not there", "a scan", "Fetch the file."))
        elif match["channel"] is None:
            problem = "an image without the number of its channel"
            remarks.problems.append(InputError(path, problem, f"{match['case']}_0000.nii.gz", "Rename the file."))
        else:
            try:
                yield fields.patient_id(match["case"]), int(match["channel"]), path
            except ValueError as error:
                remarks.problems.append(InputError(folder, repr(path.name)[:80], str(error), "Rename the file."))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _once(scans: list[Scan], remarks: Remarks) -> list[Scan]:
    """Scans without those of a case that lies in both folders, or twice in one, which are problems."""
    names = [scan.name for scan in scans]
    twice = dict.fromkeys(name for name in names if names.count(name) > 1)
    for name in twice:
        same = [scan for scan in scans if scan.name == name]
        problem = f"{len(same)} files: {listed(f'{scan.image.parent.name}/{scan.image.name}' for scan in same)}"
        expected, remedy = (
            "one scan for each case and channel",
            "Keep one; a case in both folders is tested on what was trained.",
        )
        remarks.problems.append(InputError(name, problem, expected, remedy).about(same[0].subject))
    return [scan for scan in scans if scan.name not in twice]
