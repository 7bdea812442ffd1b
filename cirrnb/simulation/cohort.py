"""A simulated cohort in the published layout of CirrMRI600+, with its latent truth and evidence."""

from __future__ import annotations

import csv
import ctypes
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cirrnb.data.atomic_files import WRITING, atomic_write, move_into_place
from cirrnb.data.cohort_reading import read_cohort, unfinished_name
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import parse_json, read_text
from cirrnb.data.locks import claimed
from cirrnb.data.scan import Cohort
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.data.typed_paths import typed_path
from cirrnb.data.workers import Outcome, WorkerDied, in_parallel, processors
from cirrnb.simulation.patients import HEALTHY_LAW, Plan, draw_patient, plan, plan_from, row
from cirrnb.simulation.populations import BENCHMARK, population_of, read_population, stored_population
from cirrnb.simulation.scans import scanner, simulate_scan, write
from cirrnb.simulation.signs import SIGNS
from cirrnb.simulation.tissue_shares import ORGANS

SIMULATOR_VERSION = "1.1"
"""Version of what is simulated: raised by hand when an equal request gives other scans, masks or truth. A test on the
content of two patients guards it; changes of the source that leave the content alone need no new version."""
SCALES = ("tiny", "small", "full")
SHORTCUTS = (None, "scanner", "healthy-a", "healthy-b")
MARK = "SIMULATED.txt"
_ROWS = "unfinished"
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of glibc's `mallopt`."""


class SimulationStopped(OSError):
    """A patient could not be simulated or written: a full disk, a worker that was killed."""


def simulate_cohort(
    out: Path | str,
    patients: int | None = None,
    seed: int = 0,
    scale: str = "small",
    twins: bool = False,
    shortcut: str | None = None,
    healthy: int | None = None,
    workers: int | None = None,
    progress: bool = True,
    organs: bool = False,
    population: str | None = None,
) -> Cohort:
    """Simulate a cohort in the layout of CirrMRI600+, and read it.

    Parameters
    ----------
    out : folder to make. It appears when it is complete; an interrupted simulation resumes.
    patients : number of patients with cirrhosis. By default 48 for "small", and the published 337 (291 with both
        sequences) for "tiny" and "full".
    seed : patient number i of a seed is the same for any number of patients and workers.
    scale : "small" has pixels of 2 mm, and random ids, splits and stages. "tiny" (4 mm) and "full" (published matrices
        and spacings) have the published ids, counts and splits.
    twins : also write counterfactuals with the scan's own noise: twins/severity_zero has no sign, twins/without_<sign>
        all signs but one.
    shortcut : a confounder. "scanner": in training patients the scanner depends on the stage. "healthy-a" and
        "healthy-b": healthy subjects are scanned on one scanner, patients on the other. latent.csv names the scanner.
    healthy : number of healthy subjects. By default 0 for "small", and the published 55 otherwise.
    workers : processes, by default one per processor. The files do not depend on it.
    progress : show a progress bar.
    organs : also write organs/<source>/<sequence>: labels of liver lobes, spleen, ascites and other organs, see
        `cirrnb.simulation.tissue_shares.ORGANS`.
    population : how signs depend on severity: "independent" of it, or a JSON file, see
        `cirrnb.simulation.populations.read_population`. None takes the population of the benchmark.

    Returns
    -------
    The cohort, as `cirrnb.read_cohort` reads it.

    Raises
    ------
    InputError
        If `out` holds something else, an interrupted simulation of another request lies next to it, another process
        simulates into it, or an argument is invalid.
    SimulationStopped
        If a patient could not be written, for example because the disk is full. Finished patients are kept.

    Examples
    --------
    >>> cohort = cirrnb.simulate_cohort("cohorts/mine", patients=12, scale="tiny", healthy=0, progress=False)
    >>> sorted(cohort.sequences)
    ['T1W', 'T2W']
    """
    out = typed_path(out)
    request: dict[str, Any] = {
        "patients": patients,
        "seed": seed,
        "scale": scale,
        "twins": twins,
        "shortcut": shortcut,
        "healthy": healthy,
        "version": SIMULATOR_VERSION,
    }
    if organs:  # not named otherwise, so that requests of cohorts simulated before stay the same
        request["organs"] = True
    if population not in (None, BENCHMARK.name):
        request["population"] = stored_population(read_population(str(population)))
    if healthy or (healthy is None and scale != "small"):  # cohorts without healthy subjects are as they were
        request["healthy_law"] = HEALTHY_LAW
    _judge(request)
    if not _is_complete(out, request):
        with claimed(out):
            if not _is_complete(out, request):  # another run may have completed it meanwhile
                _simulate(out, request, workers, progress)
    return read_cohort(out)


def _is_complete(out: Path, request: dict[str, Any]) -> bool:
    """True if the cohort that is asked for stands there. Raises InputError if something else does."""
    if out.is_file():
        raise InputError(out, "a file", "a folder, which is made", "Choose another name for the simulated cohort.")
    if not out.exists() or not any(out.iterdir()):
        return False
    if stored_request(out) != request:
        raise InputError(out, "a folder that is not empty", "a new folder", "Choose another, or remove this one.")
    return True


def _simulate(out: Path, request: dict[str, Any], workers: int | None, progress: bool) -> None:
    """Begin or go on, and leave the cohort; no other simulation writes there meanwhile."""
    unfinished = unfinished_name(out)
    if unfinished.exists() and stored_request(unfinished) != request:
        raise InputError(unfinished, "what another simulation left", "nothing", "Remove that folder.")
    (unfinished / _ROWS).mkdir(parents=True, exist_ok=True)
    for leftover in unfinished.rglob(f"{WRITING}*"):  # by a simulation that was killed
        leftover.unlink()
    atomic_write(unfinished / MARK, _mark(request))
    plans = plan(request["scale"], request["patients"], request["healthy"], request["seed"])
    missing = [patient_plan for patient_plan in plans if not _row_path(unfinished, patient_plan).is_file()]
    jobs = [{"plan": asdict(patient_plan), "request": request, "out": str(unfinished)} for patient_plan in missing]
    finished = _simulate_all(jobs, min(workers or processors(), max(1, len(jobs))))
    for _ in _shown(finished, len(jobs), progress):
        pass
    _write_tables(unfinished, plans)
    if request.get("organs"):
        names = "".join(f"{number} = {name}\n" for number, name in enumerate(ORGANS, start=1))
        (unfinished / "organs" / "labels.txt").write_text(f"0 = outside the body\n{names}", encoding="utf-8")
    shutil.rmtree(unfinished / _ROWS)
    if out.exists():
        out.rmdir()
    move_into_place(unfinished, out)


def simulated_so_far(out: Path) -> int | None:
    """How many patients a simulation into `out` has made that is under way or was interrupted; None for none such."""
    rows = unfinished_name(out) / _ROWS
    return sum(1 for _ in rows.glob("*.json")) if rows.is_dir() else None


def stored_request(root: Path) -> dict[str, Any] | None:
    """What was asked of the simulator that made a cohort, its version among it; None if `root` is none.

    Cohorts made before versions were raised by hand also hold a hash of the simulator's source, which says nothing of
    their content and is left out.
    """
    try:
        text = read_text(root / MARK)
        request = parse_json(text[text.index("{") :])
    except (OSError, ValueError):
        return None
    if not isinstance(request, dict):
        return None
    return {name: value for name, value in request.items() if name != "source"}


def _judge(request: dict[str, Any]) -> None:
    for name, allowed in (("scale", SCALES), ("shortcut", SHORTCUTS)):
        if request[name] not in allowed:
            raise InputError(name, repr(request[name]), f"one of {allowed}", "Choose one of these.")
    for name, least in (("patients", 1), ("healthy", 0), ("seed", 0)):
        value = request[name]
        if value is not None and (not isinstance(value, int) or value < least):
            raise InputError(name, repr(value), f"a whole number from {least}", "Correct the argument.")


def _mark(request: dict[str, Any]) -> str:
    return (
        "These images are SIMULATED. They were computed, no patient was ever scanned, and nothing learnt from them\n"
        "holds for a patient.\n\n" + json.dumps(request, indent=1, sort_keys=True) + "\n"
    )


def _row_path(folder: Path, patient_plan: Plan) -> Path:
    return folder / _ROWS / f"{patient_plan.index}.json"


def simulate_patient(job: dict[str, Any]) -> None:
    """Simulate and write everything of one patient, its latent row last, which marks it as complete."""
    _keep_memory()
    patient_plan, request, out = plan_from(job["plan"]), job["request"], Path(job["out"])
    seed = request["seed"]
    # One thread: several might add up in another order, and the last bit of a voxel would depend on the machine's load.
    with threadpool_limits(1):
        patient = draw_patient(patient_plan, seed, population_of(request), request.get("healthy_law", 1))
        name = scanner(patient, seed, request["shortcut"])
        for sequence, split in patient_plan.splits.items():
            made = simulate_scan(
                patient, sequence, seed, request["scale"], name, request["twins"], request.get("organs", False)
            )
            images, masks = _folders(sequence, split)
            file = f"{patient_plan.patient}.nii.gz"
            write(out / images / file, made.image, made.grid)
            write(out / masks / file, made.mask, made.grid)
            write(out / "evidence" / patient_plan.source / sequence / file, made.evidence, made.grid)
            if made.organs is not None:
                write(out / "organs" / patient_plan.source / sequence / file, made.organs, made.grid)
            for kind, values in made.twins.items():
                write(out / "twins" / kind / sequence / file, values, made.grid)
    stored = row(patient, {"scanner": name, **{f"split_{s}": (v or "") for s, v in patient_plan.splits.items()}})
    atomic_write(_row_path(out, patient_plan), json.dumps({"listed": patient_plan.listed, **stored}))


@cache
def _keep_memory() -> None:
    """Let the C library keep freed memory for the next array: a tenth of the time went into handing it back."""
    try:
        library = ctypes.CDLL(None)
        for option, size in ((TRIM_THRESHOLD, 1 << 30), (MMAP_THRESHOLD, 32 << 20)):
            library.mallopt(option, size)
    except (OSError, AttributeError, TypeError):
        return  # not the GNU library: only slower


def _folders(sequence: str, split: str | None) -> tuple[str, str]:
    short = sequence[:2]
    if split is None:
        folder = f"Healthy_subjects/{short}_W_Healthy"
        return f"{folder}/{short}_images", f"{folder}/{short}_masks"
    return f"Cirrhosis_{short}_3D/{split}_images", f"Cirrhosis_{short}_3D/{split}_masks"


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Simulate one patient, for `cirrnb.data.workers`; what goes wrong comes back in words as `failure`."""
    try:
        simulate_patient(job)
    except InputError as error:
        return {"failure": str(error)}
    except OSError as error:
        return {"failure": f"{error.strerror or error} (patient {job['plan']['patient']})"}
    return {}


def _simulate_all(jobs: Sequence[dict[str, Any]], workers: int) -> Iterator[None]:
    """One patient after the other, in this process or in several. Raises SimulationStopped at the first failure."""
    if workers == 1:
        outcomes: Iterator[Outcome | WorkerDied] = (run_job(job) for job in jobs)
    else:
        outcomes = (outcome for _, outcome in in_parallel(jobs, workers, __name__))
    for outcome in outcomes:
        failure = str(outcome) if isinstance(outcome, WorkerDied) else outcome.get("failure")
        if failure:
            raise SimulationStopped(f"the simulation stopped: {failure}. Started again it goes on from here.")
        yield None


def _shown(finished: Iterator[None], total: int, progress: bool) -> Iterator[None]:
    from tqdm.auto import tqdm

    return iter(tqdm(finished, total=total, desc="simulating patients", disable=not progress))


def _write_tables(out: Path, plans: Sequence[Plan]) -> None:
    """latent.csv and the published tables, with exactly their columns."""
    rows = [json.loads(_row_path(out, patient_plan).read_text(encoding="utf-8")) for patient_plan in plans]
    columns = list(dict.fromkeys(name for record in rows for name in record if name != "listed"))
    _write_csv(out / "latent.csv", columns, [[record.get(name, "") for name in columns] for record in rows])
    ill = [record for record in rows if record["source"] == "cirrhotic"]
    header = ["Patient ID", "Age", "Gender", "Radiological Evaluation"]

    def line(record: dict[str, Any], listed: bool = True) -> list[Any]:
        code = CIRRHOSIS.index(record["stage"]) + 1 if listed else ""
        return [record["patient"], record["age"], _gender(record), code]

    folder = out / "Metadata"
    folder.mkdir(exist_ok=True)
    tables = {
        "CirrMRI600+_CompleteData": [line(record, record["listed"]) for record in ill],
        "T1": [line(record) for record in ill if record.get("split_T1W")],
        "T2": [line(record) for record in ill if record.get("split_T2W")],
        "T1&T2_Paired": [line(record) for record in ill if record.get("split_T1W") and record.get("split_T2W")],
    }
    for name, lines in tables.items():
        _write_csv(folder / f"{name}_age_gender_evaluation.csv", header, lines)
    well = [[record["patient"], record["age"], _gender(record)] for record in rows if record["source"] == "healthy"]
    if well:
        _write_csv(folder / "Healthy_demographics.csv", ["ID", "Age", "Gender"], well)
    stages = "".join(f"{number} = {stage}\n" for number, stage in enumerate(CIRRHOSIS, start=1))
    (folder / "labels.txt").write_text(f"Radiological Evaluation\n{stages}", encoding="utf-8")
    signs = "".join(f"{number} = {sign}\n" for number, sign in enumerate(SIGNS, start=1))
    (out / "evidence" / "labels.txt").write_text(f"0 = as the twin without signs\n{signs}", encoding="utf-8")


def _gender(record: dict[str, Any]) -> int:
    return 1 if record["sex"] == "female" else 2


def _write_csv(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)
