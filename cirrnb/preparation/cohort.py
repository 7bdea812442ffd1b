"""Preparing a cohort: in parallel, never twice, and never stopped by one bad scan."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.cohort_reading import as_cohort
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.prepared import PreparationSettings, PreparedScan, describe
from cirrnb.data.progress import Progress, watched
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.status import STATUS_COLUMN, forced
from cirrnb.data.typed_paths import typed_path
from cirrnb.data.workers import Job, Outcome, WorkerDied, in_parallel, processors
from cirrnb.preparation.field_of_view import Extents, view_of, views_of
from cirrnb.preparation.fingerprints import Fingerprints, fingerprint, look
from cirrnb.preparation.standardisation import View
from cirrnb.preparation.store import StorageError, Store, content_key

if TYPE_CHECKING:
    import pandas as pd

PREPARED = Path("prepared")
"""Folder, beside where one works, for the prepared scans of cohorts that are not given another."""

SEGMENTED = "segmented"
"""Folder for masks that the segmenter draws, within that of the prepared scans."""


def prepare(
    cohort: Cohort | PreparedCohort | Path | str,
    out: Path | str | None = None,
    settings: PreparationSettings | None = None,
    *,
    masks: str | None = None,
    force: bool = False,
    workers: int | None = None,
    progress: Progress = True,
) -> PreparedCohort:
    """Bring every scan of a cohort to one form, and keep it in a folder for the next call.

    A prepared scan has the shape (slices, rows, columns), axial slices, and LPS orientation. All scans have the same
    spacing within the slice; between slices it is as acquired. See `PreparationSettings` and `PreparedScan`. The result
    depends only on the scan's file, its mask's file and the settings. Scans that cannot be prepared are skipped and
    listed in `failures`.

    Parameters
    ----------
    cohort : a cohort, or the path of one, which `cirrnb.read_cohort` reads. A prepared cohort is returned unchanged.
    out : folder for prepared scans, made if missing; by default prepared/ and the cohort's name. Several cohorts and
        settings may share it. It is safe to delete. An interrupted call resumes.
    settings : how scans are prepared; None takes the defaults of `PreparationSettings`. The shipped model needs
        `cirrnb.Model.load().preparation`; `cirrnb.predict` takes care of that.
    masks : "program" segments the liver of scans without a mask, and checks all scans except simulated ones. "given"
        uses only the masks of the cohort. By default "program" if the view is "liver", else "given".
    force : also stage patients whose scans a check refuses; their answers are doubtful.
    workers : processes; None takes one per processor, 1 works in this process.
    progress : True shows a progress bar, False none; None shows one in a terminal and in a notebook. A function is
        called with lines instead.

    Returns
    -------
    The prepared scans of all patients, with `failures`, a table of skipped scans.

    Raises
    ------
    InputError
        If `cohort` is prepared with other settings than these, or is no cohort.
    InputErrors
        If a path names no cohort that can be read, or no scan at all could be prepared.
    StorageError
        If `out` cannot be written, for example because the disk is full. Finished scans are kept.

    Examples
    --------
    >>> prepared = cirrnb.prepare("cohorts/mine", progress=False)
    >>> len(prepared.failures)
    0
    """
    cohort = as_cohort(cohort)
    if isinstance(cohort, PreparedCohort):
        return _fitting(cohort, settings)
    settings, out = settings or PreparationSettings(), typed_path(out) if out is not None else PREPARED / cohort.name
    if (masks or ("program" if settings.view == "liver" else "given")) == "program":
        cohort = with_masks(cohort, out, workers, progress)
    if force:
        cohort = replace(cohort, scans=tuple(forced(scan) for scan in cohort.scans))
    store = Store(out.absolute())
    store.make()
    store.clean()
    fingerprints = Fingerprints(store.folder / "fingerprints.json")
    views = views_of(cohort, settings, Extents(store.folder / "extents.json", fingerprints))
    prepared = {
        place: kept
        for place, scan in enumerate(cohort.scans)
        if (kept := _known(scan, settings, view_of(scan, settings, views), store, fingerprints)) is not None
    }
    jobs = {
        place: _job(scan, settings, view_of(scan, settings, views), store)
        for place, scan in enumerate(cohort.scans)
        if place not in prepared
    }
    failed: dict[int, InputError] = {}
    try:
        with store.at_work(), closing(_run(jobs, workers, progress, len(prepared))) as outcomes:
            for place, outcome in outcomes:
                result = _result(outcome, cohort.scans[place], store, fingerprints)
                if isinstance(result, InputError):
                    failed[place] = result
                else:
                    prepared[place] = result
    finally:
        fingerprints.save()
        store.clean_own()
    if not prepared:
        raise InputErrors(failed.values() or [_nothing(cohort)])
    scans = tuple(prepared[place] for place in sorted(prepared))
    failures = _failures(cohort, failed)
    return PreparedCohort(scans, failures, settings, cohort.name, cohort.simulated, cohort.stages, cohort.sequences)


def _fitting(prepared: PreparedCohort, settings: PreparationSettings | None) -> PreparedCohort:
    """The cohort itself, if it was prepared with these settings. Raises InputError otherwise."""
    if settings is not None and prepared.settings != settings:
        raise InputError(
            prepared.name,
            f"a cohort prepared with {prepared.settings}",
            f"one prepared with {settings}",
            "Hand in the cohort as cirrnb.read_cohort returned it: it is then prepared with these settings.",
        )
    return prepared


def with_masks(cohort: Cohort, out: Path, workers: int | None = None, progress: Progress = True) -> Cohort:
    """The cohort with the segmenter's masks and organs for scans without a mask, kept in `out`/segmented, and checked.

    Masks that are there stay. Where checks were fitted for the shipped segmenter, scans with a mask are looked at too,
    if no check was made of them before; but not those that the simulator made. Raises InputError if the segmenter
    cannot be used.
    """
    from cirrnb.segmentation.cohort import has_checks, segment_cohort

    check = has_checks() and not cohort.simulated
    wanted = [scan for scan in cohort.scans if scan.mask is None or (check and STATUS_COLUMN not in scan.extra)]
    if not wanted:
        return cohort
    made = segment_cohort(
        replace(cohort, scans=tuple(wanted)),
        out / SEGMENTED,
        all_scans=True,
        workers=workers,
        progress=lambda items, total, what: watched(items, total=total, desc=what, progress=progress),
    )
    drawn = {scan.name: scan for scan in made.cohort.scans}
    return replace(cohort, scans=tuple(drawn.get(scan.name, scan) for scan in cohort.scans))


def run_job(job: Job) -> Outcome:
    """Prepare one scan into the store: what a worker does.

    Returns the `key` and the `fingerprints` of image and mask, or what is wrong with the scan as `failure`, or what
    is wrong with the store as `storage`, both as the arguments of an InputError.
    """
    image, mask = Path(job["image"]), Path(job["mask"]) if job["mask"] else None
    try:
        store = Store(Path(job["store"]), job["run"])
        view = _view(job.get("view"))
        return _prepare_scan(image, mask, PreparationSettings(**job["settings"]), view, store)
    except StorageError as error:
        return {"storage": error.args}
    except InputError as error:
        return {"failure": error.args}
    except MemoryError:
        return {"failure": [job["image"], "too little memory for it", "a scan that fits", "Use fewer workers."]}
    except (OSError, ArithmeticError, ValueError) as error:  # unusual values of one scan do not stop the others
        reason = f"{type(error).__name__}: {error}"
        return {"failure": [job["image"], reason, "a scan that can be prepared", "Please report this, with the file."]}


def _prepare_scan(
    image: Path, mask: Path | None, settings: PreparationSettings, view: View | None, store: Store
) -> Outcome:
    from cirrnb.preparation.standardisation import standardise

    prints = {str(path): fingerprint(path) for path in (image, mask) if path}
    key = content_key(prints[str(image)][-1], prints[str(mask)][-1] if mask else None, settings, _stored(view))
    if not store.holds(key):
        made = standardise(image, mask, settings, view)
        for path, entry in prints.items():
            if look(Path(path).stat()) != entry[0]:
                raise InputError(path, "a file that changed while it was read", "a file at rest", "Prepare it again.")
        arrays = {"image": made.image} if made.mask is None else {"image": made.image, "mask": made.mask}
        store.write(key, describe(made.grid, made.source_grid, settings, made.notes, made.measured), arrays)
    return {"key": key, "fingerprints": prints}


def _stored(view: View | None) -> dict[str, Any] | None:
    if view is None:
        return None
    box = {} if view.box is None else {"box": [list(pair) for pair in view.box]}
    return {"field": list(view.field), "margin": view.margin, **box}


def _view(stored: Mapping[str, Any] | None) -> View | None:
    """What `_stored` made of a view."""
    if not stored:
        return None
    x, y, z = (tuple(pair) for pair in stored["box"]) if "box" in stored else ((), (), ())
    return View(tuple(stored["field"]), stored["margin"], (x, y, z) if x else None)


def _known(
    scan: Scan, settings: PreparationSettings, view: View | None, store: Store, fingerprints: Fingerprints
) -> PreparedScan | None:
    """The scan as it was prepared before, if neither its files nor what was prepared have changed."""
    image = fingerprints.recall(scan.image)
    mask = fingerprints.recall(scan.mask) if scan.mask else None
    if image is None or (scan.mask and mask is None):
        return None
    return store.open(content_key(image, mask, settings, _stored(view)), scan)


def _job(scan: Scan, settings: PreparationSettings, view: View | None, store: Store) -> Job:
    return {
        "image": str(scan.image.absolute()),
        "mask": str(scan.mask.absolute()) if scan.mask else None,
        "settings": settings.stored(),
        "view": _stored(view),
        "store": str(store.folder),
        "run": store.run,
    }


def _run(
    jobs: dict[int, Job], workers: int | None, progress: Progress, done: int
) -> Generator[tuple[int, Outcome | WorkerDied]]:
    """Outcomes as they come, by place in the cohort."""
    places, todo = list(jobs), list(jobs.values())
    crew = min(workers or processors(), len(todo))
    with closing(in_parallel(todo, crew, __name__) if crew > 1 else _in_turn(todo)) as outcomes:
        total = done + len(todo)
        shown = watched(outcomes, total=total, desc="Preparing", unit="scan", progress=progress, done=done)
        for place, outcome in shown:
            yield places[place], outcome


def _in_turn(jobs: list[Job]) -> Generator[tuple[int, Outcome | WorkerDied]]:
    for place, job in enumerate(jobs):
        yield place, run_job(job)


def _result(
    outcome: Outcome | WorkerDied, scan: Scan, store: Store, fingerprints: Fingerprints
) -> PreparedScan | InputError:
    """The prepared scan or why there is none. Raises StorageError."""
    if isinstance(outcome, WorkerDied):
        return InputError(scan.image, str(outcome), "a scan that can be prepared", "Use fewer workers or leave it out.")
    if "storage" in outcome:
        raise StorageError(*outcome["storage"])
    if "failure" in outcome:
        return InputError(*outcome["failure"])
    for path, entry in outcome["fingerprints"].items():
        fingerprints.learn(Path(path), entry)
    return store.open(outcome["key"], scan) or InputError(
        scan.image, "its prepared folder gone", "a folder nobody deletes from meanwhile", "Call prepare again."
    )


def _nothing(cohort: Cohort) -> InputError:
    return InputError(cohort.name, "no scans", "at least one scan", "Look at how the cohort was read or selected.")


def _failures(cohort: Cohort, failed: dict[int, InputError]) -> pd.DataFrame:
    """One row a scan passed over. Files are named without their folders, so that the table can be shared."""
    import pandas as pd

    rows = []
    for place in sorted(failed):
        scan, reason = cohort.scans[place], str(failed[place])
        for path in (scan.image, scan.mask):
            if path is not None:
                reason = reason.replace(str(path.absolute()), path.name).replace(str(path), path.name)
        rows.append((scan.subject, scan.sequence, reason))
    return pd.DataFrame(rows, columns=["subject", "sequence", "reason"])
