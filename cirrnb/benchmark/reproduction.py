"""The rows of the reference paper's table: each a network and a sequence, trained by its protocol and scored beside it.

A row is one `cirrnb train` in a process of its own, so that a row can be killed and resumed, and several GPUs take a
row each. What the paper does, and what a run does otherwise, stands in `protocol.py`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pandas as pd
import torch

import cirrnb
from cirrnb.benchmark import protocol, rehearsal_plugin
from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError, listed
from cirrnb.data.json_file import read_object
from cirrnb.data.scan import SPLITS, Cohort
from cirrnb.data.workers import python_command
from cirrnb.evaluation.evaluation import Evaluation, evaluate
from cirrnb.evaluation.reference_paper import slice_accuracy
from cirrnb.model.run_folder import read_history, read_predictions, read_slice_predictions

NETWORKS = {
    "VGG-19": "vgg19",
    "ResNet-18": "resnet18",
    "ResNet-50": "resnet50",
    "PVTv2-B2": "pvt_v2_b2",
    "MambaVision-T": "mambavision_t",
}
"""What the paper calls a network -> the backbone here. Any other name of timm or of a plug-in is a row too."""

TRAINED, REHEARSED, NOT_RUN = "trained", "rehearsed, not trained", "not run"
CPU_BATCH = 4
"""Slices in a rehearsed step without a GPU; on a GPU the protocol's 32 are tried, whether they fit into its memory."""
MARK = "rehearsal.json"
"""Written beside a row's page once it was rehearsed."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    network : as the paper calls it. backbone : as it is called here. sequence : T1W or T2W.
    """

    network: str
    backbone: str
    sequence: str

    @property
    def name(self) -> str:
        """Of its folders."""
        return f"{self.backbone}-{self.sequence}"

    @property
    def published(self) -> float | None:
        """Share of test slices that the paper gives, where it is known."""
        return protocol.PUBLISHED.get((self.backbone, self.sequence))


def rows_of(networks: Sequence[str], sequences: Sequence[str]) -> list[Row]:
    """A row for each network, by the paper's name or the backbone's, and each sequence.

    Raises InputError for a network or sequence that is named twice, or none.
    """
    called = {name.lower(): (name, backbone) for name, backbone in NETWORKS.items()}
    called |= {backbone: (name, backbone) for name, backbone in NETWORKS.items()}
    chosen = [called.get(name.lower(), (name, name)) for name in networks]
    backbones = [backbone for _, backbone in chosen]
    twice = {name for names in (backbones, list(sequences)) for name in names if names.count(name) > 1}
    if twice or not chosen or not sequences:
        problem = f"{listed(sorted(twice))} twice" if twice else "none"
        raise InputError("networks and sequences", problem, "each once, and at least one", "Correct the list.")
    return [Row(name, backbone, sequence) for sequence in sequences for name, backbone in chosen]


@dataclass(frozen=True)
class Reproduction:
    """Where the rows lie, and what they have in common.

    Attributes
    ----------
    cohort : path of the cohort. prepared : folder of prepared scans.
    runs, reports : folders of the run folders and of their pages, by `Row.name`.
    weights : folder of first weights by backbone (resnet18.safetensors); those that it lacks are fetched.
    options : parameters of 02_train for every row, in place of the protocol's.
    """

    cohort: Path
    prepared: Path
    runs: Path
    reports: Path
    weights: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, row: Row) -> Path:
        """The run folder of a row."""
        return self.runs / row.name

    def log(self, row: Row) -> Path:
        """What a row's training printed."""
        return self.reports / row.name / "train.log"

    def command(self, row: Row, **further: Any) -> list[str]:
        """The command that trains a row, or goes on with it."""
        options = {
            "preset": "reference",
            "cohort": self.cohort,
            "prepared": self.prepared,
            "sequences": row.sequence,
            "backbone": row.backbone,
            "run": self.run(row),
            "out": self.reports / row.name,
        }
        file = None if self.weights is None else self.weights / f"{row.backbone}.safetensors"
        options |= {"weights": file} if file is not None and file.is_file() else {}
        options |= {**self.options, **further}
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        return python_command("-m", "cirrnb", "train", *words)


Tell = Callable[[str], object]


def train_rows(
    reproduction: Reproduction,
    rows: Sequence[Row],
    *,
    rehearse: bool = False,
    at_once: int | None = None,
    tell: Tell = print,
) -> dict[str, str]:
    """Train every row that is not finished; name of a row -> why it failed, for those that did.

    One row's failure does not stop the others. A row that was interrupted goes on where it stopped.

    Parameters
    ----------
    rehearse : take two steps of each row with random first weights, with a kill and a resumption between them, on one
        patient of each stage and split, of whom one slice is scored at the end.
    at_once : rows side by side; None takes one for each GPU, or one. With several GPUs each row gets its own.
    """
    devices: SimpleQueue[str | None] = SimpleQueue()
    gpus = torch.cuda.device_count()
    count = at_once or max(gpus, 1)
    for number in range(count):
        devices.put(str(number % gpus) if gpus > 1 else None)
    failures: dict[str, str] = {}

    def work(row: Row) -> None:
        device = devices.get()
        began = time.monotonic()
        try:
            failure = _rehearse(reproduction, row, device) if rehearse else _train(reproduction, row, device)
        finally:
            devices.put(device)
        if failure:
            failures[row.name] = failure
        done = f"failed: {failure}" if failure else "rehearsed" if rehearse else "trained"
        tell(f"{row.network} {row.sequence}: {done} ({time.monotonic() - began:.0f} s)")

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, [row for row in rows if not _finished(reproduction, row, rehearse, tell)]))
    return failures


def _finished(reproduction: Reproduction, row: Row, rehearse: bool, tell: Tell) -> bool:
    """True for a row that need not be run again; a rehearsed one is trained in earnest all the same."""
    finished = reproduction.run(row).is_dir()
    if finished:
        tell(f"{row.network} {row.sequence}: already {'rehearsed' if rehearse else 'trained'}")
    return finished


def _train(reproduction: Reproduction, row: Row, device: str | None) -> str:
    """Train a row; why it failed, or nothing."""
    code = _call(reproduction, row, reproduction.command(row), device)
    return "" if code == 0 else _reason(reproduction.log(row))


def _rehearse(reproduction: Reproduction, row: Row, device: str | None) -> str:
    """Two steps with a kill between them; what went wrong, or nothing."""
    short = {"epochs": 2, "steps": 1, "limit": 1, "workers": 0, "pretrained": "none"}
    if not torch.cuda.is_available():
        short["batch"] = CPU_BATCH
    short |= reproduction.options
    mark = reproduction.reports / row.name / MARK
    begun = time.monotonic()
    killing = {"plugin": rehearsal_plugin.__file__, "track": "killed_after_first_epoch"}
    code = _call(reproduction, row, reproduction.command(row, **short, **killing), device)
    saved = reproduction.run(row).with_name(f".{row.name}.unfinished") / "epoch-0001"
    if code == 0 or not saved.is_dir():
        return _reason(reproduction.log(row)) or "it was not killed after its first step"
    if _call(reproduction, row, reproduction.command(row, **short), device):
        return _reason(reproduction.log(row))
    steps = len(read_history(reproduction.run(row)))
    if steps != 2:
        return f"{steps} steps, and not 2"
    record = {"steps": 2, "killed_after_step": 1, "resumed": True, "seconds": round(time.monotonic() - begun)}
    atomic_write(mark, json.dumps(record) + "\n")
    return ""


def _call(reproduction: Reproduction, row: Row, command: Sequence[str], device: str | None) -> int:
    """The exit code of a training, whose words go to the row's log."""
    log = reproduction.log(row)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **({} if device is None else {"CUDA_VISIBLE_DEVICES": device})}
    with log.open("a", encoding="utf-8") as words:
        return subprocess.run(command, stdout=words, stderr=subprocess.STDOUT, env=environment, check=False).returncode


def _reason(log: Path) -> str:
    """The last message of a failed training."""
    words = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    messages = [line for line in words if line.startswith("cirrnb:")]
    last = (messages or words or ["it ended without a word"])[-1]
    return re.sub(r"\s+", " ", last.removeprefix("cirrnb: "))[:300]


COLUMNS = ("network", "sequence", "slices right", "published", "majority", "slices", "patients", "patients right")
"""Of `table`, before kappa, comparable and status."""


def table(
    reproduction: Reproduction,
    rows: Sequence[Row],
    cohort: Cohort,
    failures: Mapping[str, str] | None = None,
    resamples: int = 2000,
) -> pd.DataFrame:
    """One line per row: accuracy by slice and by patient on the test split, and the published accuracy.

    Intervals are 95 %: by slice from a bootstrap over patients, by patient Wilson's. A rehearsed row has no accuracy,
    and a table of rehearsed rows has no columns for it. `comparable` follows from the data and the settings of each
    run.
    """
    figures = pd.DataFrame([_line(reproduction, row, cohort, failures or {}, resamples) for row in rows])
    statuses = set(figures["status"])
    return figures[["network", "sequence", "status"]] if REHEARSED in statuses and TRAINED not in statuses else figures


def _line(
    reproduction: Reproduction, row: Row, cohort: Cohort, failures: Mapping[str, str], resamples: int
) -> dict[str, Any]:
    line: dict[str, Any] = {"network": row.network, "sequence": row.sequence, **dict.fromkeys(COLUMNS[2:], "")}
    line |= {"kappa, patients": "", "comparable": "", "status": NOT_RUN}
    line["published"] = "not known" if row.published is None else f"{row.published:.3f}"
    run = reproduction.run(row)
    if row.name in failures:
        return line | {"status": f"failed: {failures[row.name]}"}
    if not run.is_dir():
        unfinished = list(run.with_name(f".{run.name}.unfinished").glob("epoch-*"))
        return line | (
            {"status": f"interrupted after epoch {unfinished[-1].name[6:].lstrip('0')}"} if unfinished else {}
        )
    if is_rehearsed(run):
        return line | {"status": REHEARSED}
    slices = read_slice_predictions(run)
    if slices is None:
        return line | {"status": "a run that answers by patient"}
    by_slice = slice_accuracy(slices, resamples=resamples, stages=cohort.stages).iloc[0]
    judged = evaluate(read_predictions(run), resamples=resamples, stages=cohort.stages)
    line["slices right"] = _interval(by_slice["value"], by_slice["low"], by_slice["high"])
    line |= {"majority": f"{by_slice['majority']:.3f}", "slices": by_slice["n"], "patients": by_slice["patients"]}
    line |= {"patients right": _metric(judged, "accuracy"), "kappa, patients": _metric(judged, KAPPA)}
    line["comparable"] = protocol.comparable(protocol.lines(run, cohort), cohort.simulated)
    return line | {"status": TRAINED}


KAPPA = "quadratic weighted kappa"


def is_rehearsed(run: Path) -> bool:
    """True for a run that was cut short by a number of steps: its figures mean nothing."""
    return bool(read_object(run / "config.json", "a whole run folder", "Train again.")["training"].get("steps"))


def own_stager(
    model: str, cohort: Cohort, prepared: Path | str | None, resamples: int = 2000, tell: Tell = print
) -> dict[str, Any] | None:
    """Our own stager on the paper's test patients, as a line of `table`; None where nobody of them can be staged.

    It sees all sequences and answers by patient, so that no share of slices stands beside it.
    """
    tested = cohort.select(split="test")
    try:
        judged = evaluate(cirrnb.predict(model, tested, prepared=prepared), split="test", resamples=resamples)
    except (InputError, cirrnb.data.errors.InputErrors) as error:
        tell(f"{model}: {error}")
        return None
    line: dict[str, Any] = {"network": f"our stager ({model})", "sequence": "both"} | dict.fromkeys(COLUMNS[2:], "")
    line |= {"patients": judged.n, "patients right": _metric(judged, "accuracy")}
    line |= {"kappa, patients": _metric(judged, KAPPA), "comparable": "no: counted by patient", "status": "as it is"}
    return line


def first_lines(reproduction: Reproduction, rows: Sequence[Row], cohort: Cohort) -> tuple[Row | None, pd.DataFrame]:
    """The protocol of the first row that was trained or rehearsed, published and here, and which row that is."""
    for row in rows:
        if reproduction.run(row).is_dir():
            return row, protocol.run_lines(reproduction.run(row), cohort)
    return None, pd.DataFrame()


def deviations(reproduction: Reproduction, rows: Sequence[Row], cohort: Cohort) -> pd.DataFrame:
    """Deviations of finished rows from the published protocol: what, published, here, and the rows concerned."""
    finished = [row for row in rows if reproduction.run(row).is_dir()]
    deviating: dict[tuple[str, str, str], list[Row]] = {}
    for row in finished:
        for line in protocol.lines(reproduction.run(row), cohort):
            if line.same == protocol.NO:
                deviating.setdefault((line.what, line.published, line.here), []).append(row)
    which = [_which(group, finished) for group in deviating.values()]
    table = pd.DataFrame(list(deviating), columns=["what", "published", "here"])
    return table.assign(rows=which)


def _which(group: Sequence[Row], finished: Sequence[Row]) -> str:
    """The rows in words: "all", or their networks and sequences."""
    if len(group) == len(finished):
        return "all" if len(finished) > 1 else f"{group[0].network} {group[0].sequence}"
    names: dict[str, list[str]] = {}
    for row in group:
        names.setdefault(row.network, []).append(row.sequence)
    return ", ".join(f"{name} {' and '.join(sequences)}" for name, sequences in names.items())


def parameters_of(reproduction: Reproduction, rows: Sequence[Row]) -> pd.DataFrame:
    """Million parameters, epochs and seconds of each row that was run, and the course of its rehearsal.

    The seconds of a training are those of its epochs; those of a rehearsal count from its first process to its page.
    """
    lines = []
    for row in rows:
        run = reproduction.run(row)
        if not run.is_dir():
            continue
        from safetensors import safe_open

        with safe_open(run / "model.safetensors", "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys() if "running_" not in name]  # noqa: SIM118
        count = sum(int(torch.tensor(shape).prod()) for shape in shapes)
        history = read_history(run)
        line: dict[str, Any] = {
            "network": row.network,
            "sequence": row.sequence,
            "million parameters": f"{count / 1e6:.1f}",
        }
        line |= {"epochs": len(history), "seconds an epoch": f"{history['seconds'].mean():.0f}"}
        line |= {"seconds": f"{history['seconds'].sum():.0f}"}
        mark = reproduction.reports / row.name / MARK
        if mark.is_file() and is_rehearsed(run):
            record = read_object(mark, "a whole file", "Rehearse again.")
            line["seconds"] = str(record["seconds"])
            line["rehearsal"] = f"killed after step 1 of {record['steps']}, resumed"
        lines.append(line)
    return pd.DataFrame(lines).fillna("")


def counts(cohort: Cohort) -> str:
    """Patients of each split, in words."""
    table = cohort.patients
    numbers = [int((table["split"] == name).sum()) for name in SPLITS]
    published = " / ".join(map(str, protocol.PATIENTS))
    return f"{' / '.join(map(str, numbers))} patients to train, validate and test; in the paper {published}"


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _metric(judged: Evaluation, name: str) -> str:
    row = judged.table[judged.table["metric"] == name].iloc[0]
    return _interval(row["value"], row["low"], row["high"])


def given_options(text: str | None) -> dict[str, str]:
    """Parameters of 02_train written as "pixels=128,epochs=60". Raises InputError for anything else."""
    options = {}
    for pair in filter(None, (part.strip() for part in (text or "").split(","))):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not name or not equals or not value:
            raise InputError("options", repr(pair), "NAME=VALUE, as pixels=128", "Correct it.")
        options[name] = value
    return options
