"""The rehearsal of a night: from Orthanc and back, killed at random moments, then finished by `cirrnb report`.

    python tests/rehearsal.py FOLDER [--patients 30] [--kills 10] [--seconds 600] [--steps 8] [--finish]

writes simulated patients, phantoms and, where CIRRNB_EXTERNAL_DATA names them, real scans as DICOM, puts them into an
Orthanc on 127.0.0.1, and works on them with the true workers. In the end FOLDER/rehearsal.json says what became of
each study, and the exit code is 1 if one has neither an answer nor a reason, or a result is not there exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import nibabel as nib
import numpy as np
from dicom_patients import simulated, write_scan, write_study
from dicom_phantoms import T1, T2, write_series
from orthanc import MISSING, PASSWORD, USER, Orthanc, orthanc, program
from pydicom import dcmread
from pydicom.uid import generate_uid
from strange_scans import write_ct, write_head

import cirrnb
from cirrnb.archive import dicomweb
from cirrnb.archive.chain import read_studies
from cirrnb.archive.inbox import name_of
from cirrnb.reports.tables import read_failures, read_summary
from cirrnb.run.execution import find_notebook

SEED = 31
STATE = "night.json"
REAL = {
    "totalsegmentator_mr": (("totalsegmentator_mr/example_mr_sm.nii.gz", "T1W"),),
    "cmb_crc T2W": (("cmb_crc/SCAN_001_t2_small.nii.gz", "T2W"),),
    **{f"chaos_t2 {number}": ((f"chaos_t2/image_{number}.nii.gz", "T2W"),) for number in (1, 2, 3)},
    "vfa_liver 25 degrees": (("vfa_liver/flip_25.nii.gz", "T1W"),),
    "coronal_gre magnitude": (("coronal_gre/magnitude.nii.gz", "T1W"),),
    "coronal_gre phase": (("coronal_gre/phase.nii.gz", "T1W"),),
    "dome_gre": (("dome_gre/dome_gre.nii.gz", "T1W"),),
    "not_an_mr, as MR": (("not_an_mr/ct_liver.nii.gz", "T1W"),),
    "not_a_liver, head": (("not_a_liver/head_t2.nii.gz", "T2W"),),
}
"""Real scans of the role "develop", with the sequence that their DICOM headers claim."""
REAL_DICOM = ("cmb_crc/dicom_SCAN_001_adc", "vibe_dicom")


@dataclass
class Night:
    """Files of studies by StudyInstanceUID, and what each study is."""

    folder: Path
    labels: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def add(self, label: str, files: list[Path]) -> None:
        for path in files:
            uid = str(dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
            self.labels.setdefault(uid, label)
        self.files += files


def write_night(folder: Path, patients: int) -> Night:
    """All studies of the night as DICOM files."""
    night, inbox = Night(folder), folder / "inbox"
    cohort = simulated(folder / "simulated", max(round(1.2 * patients), patients + 3), seed=SEED)
    both = Counter(scan.subject for scan in cohort.scans)
    assert sum(count == 2 for count in both.values()) >= patients, "too few patients with both sequences"
    for place in range(patients):
        night.add("simulated", write_study(inbox / f"p{place}", cohort, place))
    _write_odd(night, inbox, cohort)
    external = os.environ.get("CIRRNB_EXTERNAL_DATA")
    for label, scans in REAL.items() if external else ():
        study = generate_uid()
        for number, (name, sequence) in enumerate(scans, 1):
            image = _whole_numbers(nib.as_closest_canonical(nib.load(Path(str(external)) / name)))
            files = write_scan(
                inbox / label / str(number), image, {"T1W": T1, "T2W": T2}[sequence], study=study, number=number
            )
            night.add(f"real: {label}", files)
    for name in REAL_DICOM if external else ():
        night.add(f"real: {name}", sorted(path for path in Path(str(external), name).rglob("*") if _is_dicom(path)))
    return night


def _is_dicom(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[128:132] == b"DICM"


def _whole_numbers(image: nib.Nifti1Image) -> nib.Nifti1Image:
    values = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float64))
    values = values[..., 0] if values.ndim == 4 else values
    if np.abs(values).max() > 30000 or np.abs(values - values.round()).max() > 0:
        values *= 4000 / np.abs(values).max()
    return nib.Nifti1Image(values.round().astype(np.int16), image.affine)


def _write_odd(night: Night, inbox: Path, cohort: Any) -> None:
    """Phantoms, and studies with something wrong."""
    scratch = night.folder / "phantoms"
    scratch.mkdir(exist_ok=True)
    head = nib.as_closest_canonical(nib.load(write_head(scratch / "head.nii.gz")))
    night.add("phantom: head", write_scan(inbox / "head", head, T1, study="1.2.98.1"))
    ct = nib.as_closest_canonical(nib.load(write_ct(scratch / "ct.nii.gz")))
    night.add("phantom: CT called MR", write_scan(inbox / "as_mr", ct, T1, study="1.2.98.2"))
    night.add("a CT", write_scan(inbox / "ct", ct, T1, study="1.2.98.3", Modality="CT"))
    z, y, x = np.ogrid[-1:1:20j, -1:1:60j, -1:1:80j]
    bottle = np.where(x**2 + y**2 < 0.8, 600 + 20 * np.sin(40 * x + 30 * y + 9 * z), 5).astype(np.int16)
    place: dict[str, Any] = {"voxels": bottle, "spacing": (5.0, 5.0), "apart": 8.0}
    for number, says in enumerate((T1, T2), 1):
        files = write_series(inbox / "bottle" / str(number), says, study="1.2.98.4", number=number, **place)
        night.add("phantom: bottle", files)
    for number in range(1, 6):
        night.add(
            "five T1W candidates", write_series(inbox / "five" / str(number), T1, study="1.2.98.5", number=number)
        )
    only = write_study(inbox / "only", cohort, 0, sequences=("T2W",), study="1.2.98.6", PatientID="only")
    night.add("one sequence", only)
    text = write_study(inbox / "text", cohort, 1, study="1.2.98.7", PatientID="text", BurnedInAnnotation="YES")
    night.add("burned-in text", text)
    for number in range(2):
        files = write_study(inbox / f"two{number}", cohort, number, study="1.2.98.8", PatientID=f"two-{number}")
        night.add("two patients under one UID", files)
    name = "../../etc/passwd^<script>alert(1)</script>"
    odd = write_study(inbox / "odd", cohort, 2, study="1.2.98.9", PatientID="../../x", PatientName=name)
    night.add("a name that is a path and a script", odd)
    gap = write_series(inbox / "gap", T1, study="1.2.98.10", leave_out=(4, 5), PatientID="gap")
    night.add("slices missing", gap)
    shared = write_series(inbox / "shared", T1, study="1.2.98.11", PatientID="shared")
    night.add("UIDs that collide", shared)
    for path in shared:
        data = dcmread(path)
        data.StudyInstanceUID, other = "1.2.98.12", path.with_name(f"{path.name}_other")
        data.save_as(other)
        night.add("UIDs that collide", [other])


_QUICKER = """from functools import partial

from cirrnb.reports import report as reports

reports.ReportSettings = partial(reports.ReportSettings, steps={steps})
"""
_COMMAND = """
import sys
from pathlib import Path
from cirrnb.run import product_commands
product_commands.REPORT = Path(sys.argv.pop(1))
from cirrnb.cli import main
main()
"""
_CHAIN = (
    _QUICKER
    + """
import sys
from pathlib import Path
from cirrnb.archive.chain import StudiesRequest, report_studies
from cirrnb.reports.request import ReportRequest
request = ReportRequest(Path("cohorts/night"), "shipped", Path("reports/night"), jobs=2, pdf=True)
asked = StudiesRequest(from_dicomweb=sys.argv[1], to_dicomweb=sys.argv[1])
sys.exit(report_studies(asked, request, reports.ProgressLog(True)).exit_code)
"""
)


def command(url: str, notebook: Path) -> list[str]:
    """`cirrnb report` with this notebook."""
    arguments = ["report", "--from-dicomweb", url, "--to-dicomweb", url, "--out", "reports/night", "--pdf"]
    return [sys.executable, "-c", _COMMAND, str(notebook), *arguments, "--jobs", "2", "--json"]


def chain(url: str, steps: int) -> list[str]:
    """What the command calls, without the notebook around it, which takes longer to start than to be killed."""
    return [sys.executable, "-c", _CHAIN.format(steps=steps), url]


def write_notebook(folder: Path, steps: int) -> Path:
    """The notebook of the report, whose maps are tested at fewer points; all else is as it is."""
    notebook = nbformat.read(find_notebook("08_cohort_report"), as_version=4)
    place = next(number for number, cell in enumerate(notebook.cells) if cell.id == "report")
    notebook.cells.insert(place, nbformat.v4.new_code_cell(_QUICKER.format(steps=steps), id="steps"))
    path = folder / "08_cohort_report.ipynb"
    nbformat.write(notebook, path)
    return path


NOTHING = "nothing yet"


class Runs:
    """Runs of the command in one folder, with what they said."""

    def __init__(self, folder: Path, url: str, steps: int):
        self.folder, self.log = folder, folder / "runs.log"
        self.told = folder.parent / "runs.json"
        self.rows: list[dict[str, Any]] = json.loads(self.told.read_text()) if self.told.exists() else []
        folder.mkdir(exist_ok=True)
        self.command, self.chain = command(url, write_notebook(folder.parent, steps)), chain(url, steps)

    def one(self, limit: float | None) -> int | None:
        """A run; one that is at work for longer is killed, and None comes back."""
        for _ in range(30):
            code = self._run(limit)
            if code != 2:
                return code
            time.sleep(5)  # what a killed run has left is still ending
        raise SystemExit(f"the command is refused; see {self.log}")

    def _run(self, limit: float | None) -> int | None:
        credentials = {dicomweb.USER: USER, dicomweb.PASSWORD: PASSWORD}
        began, code = time.monotonic(), None
        with self.log.open("ab") as log:
            start = log.tell()
            run = subprocess.Popen(
                self.command if limit is None else self.chain,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **credentials},
            )
            while limit is not None and run.poll() is None and self._last(start) == NOTHING:
                time.sleep(0.2)  # it imports what it needs
            try:
                code = run.wait(limit)
            except subprocess.TimeoutExpired:
                run.kill()
                run.wait(60)
        self.rows.append({"seconds": round(time.monotonic() - began), "code": code, "last": self._last(start)})
        self.told.write_text(json.dumps(self.rows))
        print(self.rows[-1], flush=True)
        return code

    def _last(self, start: int) -> str:
        """The last thing that a run told of."""
        events = [json.loads(line) for line in self.log.read_bytes()[start:].splitlines() if line.startswith(b"{")]
        if not events:
            return NOTHING
        return f"{events[-1]['event']} {events[-1].get('done') or ''}".strip()


def judge(labels: dict[str, str], report: Path, server: Orthanc) -> tuple[list[dict[str, Any]], list[str]]:
    """What became of each study, and what is wrong."""
    studies = read_studies(report).set_index("study")
    made = read_summary(report).set_index("subject")
    failed = read_failures(report).groupby("subject")["reason"].first()
    objects: dict[str, list[str]] = defaultdict(list)
    for tags in server.instances().values():
        if tags["Modality"] in ("SEG", "SR", "DOC"):
            data = dcmread(_bytes(server.file(tags["id"])), stop_before_pixels=True)
            objects[str(data.StudyInstanceUID)].append(tags["Modality"])
    rows, wrong = [], []
    for uid, label in labels.items():
        name, kinds = name_of(uid), Counter(objects[uid])
        row: dict[str, Any] = {"label": label, "study": name, **{kind: kinds[kind] for kind in ("SEG", "SR", "DOC")}}
        if name not in studies.index:
            row |= {"outcome": "not asked for", "reason": "no series of the modality"}
        else:
            known = studies.loc[name]
            subject = str(known["subject"])
            if subject in made.index:
                row |= {"outcome": str(made.loc[subject, "status"]), "reason": str(made.loc[subject, "reasons"])}
            else:
                row |= {"outcome": "refused", "reason": str(known["reason"]) if known["fault"] else failed.get(subject)}
        rows.append(row)
        answered = row["outcome"] in ("answered", "doubtful")
        if answered and not (kinds["SR"] == kinds["DOC"] == 1 and kinds["SEG"] in (1, 2)):
            wrong.append(f"{label}, {name}: not each result once: {dict(kinds)}")
        if not answered and (kinds["SEG"] or kinds["DOC"] or kinds["SR"] > 1 or not row["reason"]):
            wrong.append(f"{label}, {name}: {row['outcome']} with {dict(kinds)}, {row['reason']}")
    return rows, wrong


def _bytes(content: bytes) -> Any:
    from io import BytesIO

    return BytesIO(content)


def rehearse(folder: Path, patients: int, kills: int, seconds: float, steps: int) -> dict[str, Any]:
    """One night, killed `kills` times after a random share of `seconds`; what came of it."""
    if (folder / "orthanc").exists():
        raise SystemExit(f"{folder} holds an earlier rehearsal: choose another folder, or finish it with --finish")
    night = write_night(folder, patients)
    dice = random.Random(SEED)
    with orthanc(folder / "orthanc") as server:
        for path in night.files:
            server.put(path.read_bytes())
        state = {"url": server.url, "steps": steps, "labels": night.labels, "files": len(night.files)}
        (folder / STATE).write_text(json.dumps(state))
        runs, killed = Runs(folder / "work", server.url, steps), 0
        while killed < kills:
            if runs.one(dice.uniform(0.01, 1.5 / kills) * seconds) is None:
                killed += 1
        return _finish(folder, server, runs, state)


def finish(folder: Path) -> dict[str, Any]:
    """The end of a rehearsal that was itself interrupted after its kills."""
    state = json.loads((folder / STATE).read_text())
    with orthanc(folder / "orthanc", int(urlsplit(state["url"]).port or 0)) as server:
        return _finish(folder, server, Runs(folder / "work", server.url, state["steps"]), state)


def _finish(folder: Path, server: Orthanc, runs: Runs, state: dict[str, Any]) -> dict[str, Any]:
    """Two undisturbed runs of the command, the second of which must change nothing; what became of each study."""
    code = runs.one(None)
    before = len(server.changes())
    again = runs.one(None)
    rows, wrong = judge(state["labels"], folder / "work/reports/night", server)
    if len(server.changes()) != before:
        wrong.append("a further run changed the archive")
    wrong += [f"left behind: {path}" for path in (folder / "work").rglob("*") if _is_left(path)]
    outcome = {
        "version": cirrnb.__version__,
        "steps": state["steps"],
        "studies": len(state["labels"]),
        "files": state["files"],
        "exit_codes": [code, again],
        "killed": sum(row["code"] is None for row in runs.rows),
        "runs": runs.rows,
        "rows": rows,
        "wrong": wrong,
    }
    (folder / "rehearsal.json").write_text(json.dumps(outcome, indent=1))
    return outcome


def _is_left(path: Path) -> bool:
    return path.name.startswith(".writing") or ("spool" in path.parts and path.suffix == ".dcm")


def _lines(outcome: dict[str, Any]) -> Iterator[str]:
    grouped: dict[tuple[str, str, str], int] = Counter()
    for row in outcome["rows"]:
        objects = ", ".join(f"{row[kind]} {kind}" for kind in ("SEG", "SR", "DOC") if row[kind]) or "none"
        reason = row["reason"] if row["outcome"] == "refused" else ""
        grouped[row["label"], f"{row['outcome']}{': ' + str(reason)[:150] if reason else ''}", objects] += 1
    yield "| study | number | outcome | objects in the archive |"
    yield "|---|---|---|---|"
    for (label, outcome_words, objects), number in grouped.items():
        yield f"| {label} | {number} | {outcome_words} | {objects} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=600, help="about as long as an undisturbed night takes")
    parser.add_argument("--finish", action="store_true", help="of a rehearsal that was interrupted after its kills")
    parser.add_argument("--steps", type=int, default=8, help="points at which maps are tested; fewer are quicker")
    given = parser.parse_args()
    if program() is None:
        print(MISSING)
        return 2
    given.folder.mkdir(parents=True, exist_ok=True)
    folder = given.folder.absolute()
    if given.finish:
        outcome = finish(folder)
    else:
        outcome = rehearse(folder, given.patients, given.kills, given.seconds, given.steps)
    print("\n".join(_lines(outcome)))
    print("\n".join(outcome["wrong"]) or "every study answered or refused with a reason, every result once")
    return 1 if outcome["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
