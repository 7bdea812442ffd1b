"""Own scans dropped into the explorer: received in chunks, told apart by their reader, prepared, and opened.

The files are kept in a private folder that goes when the kernel ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import anywidget
import ipywidgets as widgets

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError, InputErrors, Remarks
from cirrnb.data.layouts.folder import NIFTI, read_folder
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.sequences import T1W_T2W
from cirrnb.explorer.panel import OWN
from cirrnb.view.documentation import linked
from cirrnb.view.page import asset

OWN_SCANS = linked(
    "<b>Own scans: for research and teaching, not for a patient's care.</b> The model learnt from simulated patients. "
    "What it says of real people is largely unknown (docs/real_people.md). Files and maps stay on this machine, and "
    "only until the page is reloaded or the explorer ends."
)
LARGEST = 200 * 10**6
"""Bytes that a dropped file may have."""

MASK, LEAVE = "liver mask of", "leave out"
_UNCLEAR = "what is it?"
SOURCE = "dropped"

Start = Callable[[Callable[[Any], Bag], Callable[[Bag], None]], None]


@dataclass(frozen=True)
class ReceivedFile:
    """A file that was received: the name it had in the browser, and where it lies."""

    name: str
    path: Path


class Receiver(anywidget.AnyWidget):
    """The place for dropping; `received` and `refused` are called with what came and with why something did not."""

    _esm = asset("cirrnb.explorer", "upload.js")
    _css = asset("cirrnb.explorer", "upload.css")

    def __init__(self, received: Callable[[ReceivedFile], None], refused: Callable[[str], None]):
        super().__init__()
        self._received, self._refused = received, refused
        self._folder = tempfile.TemporaryDirectory(prefix="cirrnb-dropped-")
        self._number = 0
        self._file: BinaryIO | None = None
        self._name, self._size, self._there = "", 0, 0
        self.on_msg(self._hear)

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)

    def _hear(self, _: Any, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        try:
            if content.get("kind") == "begin":
                self._begin(str(content.get("name", "")), int(content.get("size", 0)))
            elif content.get("kind") == "chunk" and self._file is not None:
                self._take_chunk(int(content.get("from", -1)), bytes(buffers[0]) if buffers else b"")
        except InputError as error:
            self._stop(str(error))
        except (OSError, TypeError, ValueError) as error:
            self._stop(f"{self._name or 'The file'} could not be received ({type(error).__name__}).")

    def _begin(self, name: str, size: int) -> None:
        self._close()
        name = "".join(letter if letter.isprintable() else " " for letter in name.replace("\\", "/").rsplit("/", 1)[-1])
        self._name, self._size, self._there = name[:120], size, 0
        if not NIFTI.fullmatch(self._name):
            remedy = "Convert it first; DICOM with cirrnb import-dicom."
            raise InputError(self._name, "no NIfTI file by its name", ".nii.gz or .nii", remedy)
        if not 0 < size <= LARGEST:
            problem, expected = f"{size / 1e6:,.0f} MB", f"at most {LARGEST / 1e6:.0f} MB"
            raise InputError(self._name, problem, expected, "Open it by its path: cirrnb explore FOLDER.")
        self._number += 1
        ending = ".nii.gz" if self._name.lower().endswith(".gz") else ".nii"
        self._file = (self.folder / f"{self._number}{ending}").open("xb")  # its own name is a stranger's text
        self.send({"kind": "more", "from": 0})

    def _take_chunk(self, start: int, data: bytes) -> None:
        assert self._file is not None
        if start != self._there or not data or self._there + len(data) > self._size:
            raise ValueError("a chunk that does not fit")
        self._file.write(data)
        self._there += len(data)
        if self._there < self._size:
            self.send({"kind": "more", "from": self._there})
            return
        path = Path(self._file.name)
        self._close()
        self.send({"kind": "done"})
        self._received(ReceivedFile(self._name, path))

    def _stop(self, message: str) -> None:
        path = Path(self._file.name) if self._file is not None else None
        self._close()
        if path is not None:
            path.unlink(missing_ok=True)
        self.send({"kind": "refused"})
        self._refused(message)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class ScanUpload(widgets.VBox):
    """Where own scans are dropped, what each of them is, and the button that opens them as one patient.

    Parameters
    ----------
    settings : with which the model's scans are prepared.
    start : begins work beside the widget, as `Worker.start`.
    opened : called with the patient. say : a line for the reader, in red where the second argument is True.
    sequences : those that the model looks at.
    """

    def __init__(
        self,
        settings: PreparationSettings,
        start: Start,
        opened: Callable[[Bag], None],
        say: Callable[..., None],
        sequences: tuple[str, ...] = T1W_T2W,
    ):
        self._settings, self._start, self._opened, self._say = settings, start, opened, say
        # A model of T1W alone leaves a T2W scan out, with a note.
        self._sequences = T1W_T2W if set(sequences) <= set(T1W_T2W) else sequences
        self._files: list[ReceivedFile] = []
        self._kinds: list[widgets.Dropdown] = []
        self._patients = 0
        self.receiver = Receiver(self._received, lambda message: say(message, wrong=True))
        self.list = widgets.VBox([])
        self.opener = widgets.Button(
            description="Open these as one patient", icon="folder-open", layout={"width": "260px"}
        )
        self.opener.layout.display = "none"
        self.opener.on_click(lambda button: self._open())
        self.warning = widgets.HTML(f"<p id='{OWN}' class='cn-own-warning'>{OWN_SCANS}</p>")
        super().__init__([self.warning, self.receiver, self.list, self.opener])

    def store_of(self, bag: Bag, usual: Path | str | None) -> Path | str | None:
        """Where a patient's maps are kept: of dropped scans with their files, with which they go; None keeps none."""
        return self.receiver.folder / "explanations" if usual is not None and is_dropped(bag) else usual

    def _received(self, file: ReceivedFile) -> None:
        names = self._sequences
        options = [_UNCLEAR, *names, *(f"{MASK} {sequence}" for sequence in names), LEAVE]
        kind = widgets.Dropdown(options=options, value=_kind_from_name(file, names), layout={"width": "180px"})
        self._files.append(file)
        self._kinds.append(kind)
        self._say("")  # what was wrong with earlier files is over
        # As text: the name is a stranger's.
        self.list.children = (*self.list.children, widgets.HBox([kind, widgets.Label(file.name)]))
        self.opener.layout.display = ""

    def _open(self) -> None:
        chosen = [
            (file, kind.value) for file, kind in zip(self._files, self._kinds, strict=True) if kind.value != LEAVE
        ]
        kinds = [kind for _, kind in chosen]
        if _UNCLEAR in kinds:
            kind = f"{', '.join(self._sequences)} or a liver mask"
            self._say(f"Say for each file what it is: {kind}. A file name does not always tell.", wrong=True)
            return
        if not set(kinds) & set(self._sequences) or len(set(kinds)) < len(kinds):
            either = " or ".join(self._sequences)
            self._say(f"A patient has at most one scan for each of {either}, and a mask for each.", wrong=True)
            return
        place = {kind: file.path for file, kind in chosen}
        lone = [sequence for sequence in self._sequences if f"{MASK} {sequence}" in place and sequence not in place]
        if lone:
            self._say(f"A liver mask without its {lone[0]} scan: drop the scan as well.", wrong=True)
            return
        name = f"case-{self._patients + 1}"
        scans = tuple(
            Scan(name, sequence, place[sequence], place.get(f"{MASK} {sequence}"), source=SOURCE)
            for sequence in self._sequences
            if sequence in place
        )
        names = {str(file.path): file.name for file in self._files}
        cohort = Cohort(scans, SOURCE, sequences=self._sequences)
        self._files, self._kinds, self.list.children = [], [], ()
        self.opener.layout.display = "none"
        self._say(f"Preparing {SOURCE}/{name} ...")
        self._start(
            lambda task: _prepared(cohort, self._settings, self.receiver.folder, names),
            self._count,
        )

    def _count(self, bag: Bag) -> None:
        self._patients += 1  # only those who could be opened
        self._opened(bag)


def is_dropped(bag: Bag) -> bool:
    """True for a patient whose scans a reader dropped in."""
    return next(iter(bag.scans.values())).scan.source == SOURCE


def _kind_from_name(file: ReceivedFile, sequences: tuple[str, ...]) -> str:
    """What a file's name says, where it says it plainly."""
    scans = read_folder(Path("/"), [Path("/dropped") / file.name], remarks := Remarks())
    if scans and scans[0].sequence in sequences:
        return scans[0].sequence
    lone = next((problem.found for problem in remarks.problems if problem.found.startswith("a mask without")), "")
    return next((f"{MASK} {sequence}" for sequence in sequences if sequence in lone), _UNCLEAR)


def _prepared(cohort: Cohort, settings: PreparationSettings, folder: Path, names: dict[str, str]) -> Bag:
    """The patient; problems name the files as the reader knows them. Raises InputErrors."""
    try:
        ready = cirrnb.prepare(cohort, folder / "prepared", settings, workers=1, progress=False)
    except InputErrors as error:
        raise InputErrors(_renamed(problem, names) for problem in error.errors) from error
    if len(ready.failures):
        first = ready.failures.iloc[0]
        reason = str(first["reason"])
        for path, name in names.items():
            reason = reason.replace(Path(path).name, name)
        raise InputError(
            f"the {first['sequence']} scan", reason, "a scan that can be prepared", "Leave it out, or mend it."
        )
    return ready.bags()[0]


def _renamed(error: InputError, names: dict[str, str]) -> InputError:
    return InputError(names.get(error.where, error.where), error.found, error.expected, error.remedy)
