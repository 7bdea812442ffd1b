"""The main job from an empty folder: a simulated cohort, a stager trained on it, and a report to look at."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import cirrnb
from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.json_file import read_object
from cirrnb.run.execution import find_notebook
from cirrnb.run.parameters import check, read_schema
from cirrnb.run.publishing import publish_index, run_and_publish
from cirrnb.run.streams import Echo

PATIENTS = 72
EPOCHS = 20

LINKS = (
    ("index.html", "Report"),
    ("01_cohort.html", "1 The cohort"),
    ("02_train.html", "2 Training"),
    ("03_evaluate.html", "3 Evaluation"),
)

_TITLE = "A first report"
_LEAD = """\
A small network learnt to tell mild, moderate and severe cirrhosis apart from T1-weighted and T2-weighted MRI, and was
then asked about patients it had never seen. **The patients are simulated**: their anatomy and images were computed,
so that everything here can be tried without anybody's data. What the network can do with them says nothing about
what it could do with people."""


@dataclass(frozen=True)
class Step:
    """One stage of the demo.

    Attributes
    ----------
    name : key in the record of what is done.
    words : the line that is printed.
    folder : the folder it makes in addition to its page, or None.
    pages : the files it leaves in the report.
    key : hash over what it depends on, the steps it needs among it.
    make : does it, or goes on where it was stopped.
    """

    name: str
    words: str
    folder: Path | None
    pages: tuple[Path, ...]
    key: str
    make: Callable[[], object]


def demo(
    folder: Path | str = ".",
    patients: int = PATIENTS,
    seed: int = 0,
    epochs: int = EPOCHS,
    tell: Callable[[str], object] = print,
    echo: TextIO | Echo | None = None,
) -> Path:
    """Simulate a cohort, run 01_cohort, 02_train and 03_evaluate on it, and write a report; the path of its index.

    Leaves `cohorts/demo`, `prepared/demo`, `runs/demo` and `reports/demo` in `folder`. Called again, steps already done
    with the same settings are kept; with other settings they are done again, and replace what the demo itself had
    left.

    Parameters
    ----------
    patients : patients to simulate; three in ten test, one in ten validates.
    seed : of cohort, split and training.
    epochs : passes over the training patients.
    tell : takes one line of text a step.
    echo : where the notebooks' cells print while they run, such as the progress of the training; None for nowhere.

    Raises
    ------
    InputError
        If one of the folders exists and is not the demo's own, or too few patients are asked for.
    NotebookError
        If a notebook fails.
    """
    home = Path(folder).absolute()
    home.mkdir(parents=True, exist_ok=True)
    report = home / "reports" / "demo"
    record = Record(home / ".cirrnb-demo.json")
    for step in _steps(home, report, patients, seed, epochs, echo):
        if record.has(step):
            tell(f"{step.words}: already done")
            continue
        tell(f"{step.words} ...")
        record.begin(step)
        step.make()
        record.finish(step)
    executed = [report / name.replace(".html", ".ipynb") for name, _ in LINKS[1:]]
    index = publish_index(report / "index.html", _TITLE, _LEAD, executed, LINKS)
    tell(f"The report: {index}")
    return index


def _steps(home: Path, report: Path, patients: int, seed: int, epochs: int, echo: TextIO | Echo | None) -> list[Step]:
    cohort, run = home / "cohorts" / "demo", home / "runs" / "demo"
    # Relative, so that nothing a page shows depends on where the folder lies.
    shared = {"cohort": "cohorts/demo", "prepared": "prepared/demo"}

    def notebook(name: str, words: str, folder: Path | None, after: Step, **parameters: Any) -> Step:
        source = find_notebook(name)
        check(read_schema(source), parameters, name)
        key = _key(name, parameters, hashlib.sha256(source.read_bytes()).hexdigest(), after.key)
        pages = (report / f"{name}.ipynb", report / f"{name}.html")
        return Step(
            name,
            words,
            folder,
            pages,
            key,
            lambda: run_and_publish(source, report, parameters, cwd=home, links=LINKS, echo=echo),
        )

    simulate = Step(
        "simulate",
        f"1 of 4  Simulating {patients} patients",
        cohort,
        (),
        _key("simulate", patients, seed),
        lambda: cirrnb.simulate_cohort(cohort, patients=patients, seed=seed),
    )
    look = notebook("01_cohort", "2 of 4  Looking at the cohort", None, simulate, **shared)
    train = notebook(
        "02_train",
        f"3 of 4  Training a stager for {epochs} epochs",
        run,
        simulate,
        **shared,
        run="runs/demo",
        epochs=epochs,
        seed=seed,
    )
    score = notebook("03_evaluate", "4 of 4  Scoring it on patients it has never seen", None, train, model="runs/demo")
    return [simulate, look, train, score]


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([cirrnb.__version__, *parts]).encode()).hexdigest()


class Record:
    """Which steps of a demo were begun and done, with what, in a hidden file of its folder."""

    def __init__(self, file: Path):
        self._file = file
        try:
            self._begun: dict[str, dict[str, Any]] = read_object(file, "a whole file", "Delete it.")
        except (OSError, ValueError, TypeError):
            self._begun = {}

    def has(self, step: Step) -> bool:
        """True if the step was done with these settings and what it left is still there."""
        entry = self._begun.get(step.name, {})
        leaves = [*step.pages, *([step.folder] if step.folder else [])]
        return bool(entry.get("done")) and entry["key"] == step.key and all(path.exists() for path in leaves)

    def begin(self, step: Step) -> None:
        """Write down that a step begins, and make room: what an earlier demo left with other settings is removed.

        A folder that stood there before any demo is left alone; the step itself refuses to write over it.
        """
        entry = self._begun.get(step.name, {})
        created = bool(entry.get("own")) or step.folder is None or not step.folder.exists()
        if step.folder and created and entry and entry["key"] != step.key:
            for name in ("{}", "{}.unfinished", ".{}.unfinished"):
                shutil.rmtree(step.folder.with_name(name.format(step.folder.name)), ignore_errors=True)
        self._write(step, created=created, done=False)

    def finish(self, step: Step) -> None:
        """Write down that a step is done."""
        self._write(step, created=self._begun[step.name]["own"], done=True)

    def _write(self, step: Step, *, created: bool, done: bool) -> None:
        self._begun[step.name] = {"key": step.key, "own": created, "done": done}
        atomic_write(self._file, json.dumps(self._begun, indent=2) + "\n")
