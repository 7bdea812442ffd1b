"""Commands that open or write a product: demo, explorer, course and report.

They are registered in `cirrnb.cli`; nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from cirrnb.data.errors import InputError
from cirrnb.run.options import (
    BROWSER,
    COHORT_HELP,
    DEVICE,
    EXPLANATIONS,
    FORCE,
    MASK,
    METHOD,
    MODEL,
    MODEL_SEQUENCES,
    PLUGIN,
    PORT,
    PREPARED,
    SEED,
)
from cirrnb.run.process import require_home
from cirrnb.run.streams import ProgressEcho

REPORT = Path("08_cohort_report")
TRIES = 2
"""How often the notebook is run whose kernel dies."""


def demo(
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for cohorts, runs and reports.")] = Path(),
    patients: Annotated[int, typer.Option(min=10, help="Number of patients to simulate.")] = 72,
    seed: SEED = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training patients.")] = 20,
) -> None:
    """Simulate a cohort, train a small stager and score it.

    Takes three to five minutes on two cores. Open reports/demo/index.html afterwards. Finished steps are reused.
    """
    require_home()
    from cirrnb.run.demo import demo as run_demo

    with closing(ProgressEcho(sys.stderr)) as echo:
        run_demo(folder, patients=patients, seed=seed, epochs=epochs, tell=typer.echo, echo=echo)


def docs(
    build: Annotated[bool, typer.Option("--build", help="Build the site again.")] = False,
    execute: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Build the site again and execute these tutorials: clinician, night, researcher, student, or all.",
            show_default="all",
        ),
    ] = None,
    no_execute: Annotated[
        bool,
        typer.Option("--no-execute", help="Build the site again without executing tutorials; they show no outputs."),
    ] = False,
    tutorials: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Only copy the four tutorials into FOLDER, as notebooks to run."),
    ] = None,
    browser: BROWSER = True,
) -> None:
    """Open the documentation in a browser.

    The first time, the site is built in about five minutes, most of them to execute the tutorials. Building needs a
    clone of the repository and the extra [docs].
    """
    import webbrowser

    from cirrnb.run.documentation import EVERY, copy_tutorials, first_page

    if tutorials is not None:
        for notebook in copy_tutorials(tutorials):
            typer.echo(f"Tutorial: {notebook}")
        typer.echo(f"Open one: jupyter lab {tutorials / 'student.ipynb'}")
        return
    if no_execute and execute is not None:
        raise InputError(
            "--execute", "together with --no-execute", "one of them", "Leave --no-execute out to execute tutorials."
        )
    wanted = [] if no_execute else [name.strip() for name in (execute or EVERY).split(",") if name.strip()]
    page = first_page(build or no_execute or execute is not None, wanted, tell=lambda line: typer.echo(line, err=True))
    typer.echo(str(page))
    if browser:
        webbrowser.open(page.as_uri())


def explore(
    cohort: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of scans, CSV table of scans, or one NIfTI file named <patient>_T1W.nii.gz or "
            "<patient>_T2W.nii.gz. [default: simulated patients]"
        ),
    ] = None,
    model: MODEL = "shipped",
    patient: Annotated[str | None, typer.Option(help="Patient to show first, for example cirrhotic/12.")] = None,
    prepared: PREPARED = None,
    sequences: MODEL_SEQUENCES = None,
    plugin: PLUGIN = None,
    mask: MASK = None,
    force: FORCE = False,
    device: DEVICE = None,
    port: PORT = None,
    browser: BROWSER = True,
) -> None:
    """Open the explorer in a browser.

    It shows the images first; ask for the stage and its explanation when you have looked. Only this machine has access.
    """
    require_home()
    _compute_on(device)
    from cirrnb.run.serving import explore as serve

    given: dict[str, Any] = {"cohort": cohort and str(cohort), "prepared": prepared and str(prepared)}
    given |= {
        "patient": patient,
        "model": model,
        "sequences": sequences,
        "plugin": ",".join(str(file.absolute()) for file in plugin or ()) or None,
    }
    given |= {"mask": mask or None, "force": force or None}
    chosen = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(serve(chosen, port=port, browser=browser, tell=typer.echo))


def _compute_on(device: str | None) -> None:
    """Raises InputError if there is no such device."""
    if device is not None:
        from cirrnb.model.torch_context import choose_device

        choose_device(device)


def learn(
    cases: Annotated[int, typer.Option(min=2, help="Patients of the quiz.")] = 20,
    scale: Annotated[str, typer.Option(metavar="small|tiny", help="Pixels of the scans: 2 mm or 4 mm.")] = "small",
    start_over: Annotated[
        bool,
        typer.Option("--start-over", help="Start the course again; a backup copy of your answers is kept."),
    ] = False,
    port: PORT = None,
    browser: BROWSER = True,
) -> None:
    """Open the course in a browser.

    It teaches the signs of cirrhosis on MRI and ends with a quiz. Your answers are kept in
    ~/.local/share/cirrnb/course.json, or in $XDG_DATA_HOME/cirrnb/course.json if that variable is set.
    """
    require_home()
    from cirrnb.course.progress import progress_file
    from cirrnb.course.progress import start_over as begin_anew
    from cirrnb.run.serving import learn as serve

    if start_over:
        kept = begin_anew(progress_file())
        typer.echo(f"You begin anew. Your answers so far: {kept}" if kept else "There are no answers yet.")

    raise typer.Exit(serve({"cases": cases, "scale": scale}, port=port, browser=browser, tell=typer.echo))


def report(
    cohort: Annotated[
        Path | None,
        typer.Argument(
            help=COHORT_HELP + " With --from-dicom or --from-dicomweb: the folder for imported studies. "
            "[default then: cohorts/ and the name of --out]"
        ),
    ] = None,
    model: MODEL = "shipped",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the report.")] = Path("reports/nightly"),
    from_dicom: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder that receives DICOM studies; new ones are imported without names."),
    ] = None,
    burned_in: Annotated[
        bool,
        typer.Option("--burned-in", help="Also import series with text burned into the images, which may be a name."),
    ] = False,
    dicom_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for segmentation, structured report and PDF as DICOM objects; they carry names.",
        ),
    ] = None,
    from_dicomweb: Annotated[
        str | None,
        typer.Option(metavar="URL", help="DICOMweb archive; new studies are fetched and imported."),
    ] = None,
    to_dicomweb: Annotated[
        str | None,
        typer.Option(metavar="URL", help="DICOMweb archive to which segmentation, structured report and PDF are sent."),
    ] = None,
    modality: Annotated[str, typer.Option(help="With --from-dicomweb: modality of the series.")] = "MR",
    body_part: Annotated[
        str | None, typer.Option(metavar="NAMES", help="With --from-dicomweb: BodyPartExamined (ABDOMEN,LIVER).")
    ] = None,
    description: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="With --from-dicomweb: text in the study's description, with * and ?."),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(
            metavar="DATES",
            help="With --from-dicomweb: date of the study: 2d (the last two days), 20261101 or 20261101-20261130.",
        ),
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for studies and results in transit; carries names. [default: spool/ and the name of --out]",
        ),
    ] = None,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Also print each page as PDF; needs the extra [pdf] and Chromium.")
    ] = False,
    patients: Annotated[
        list[str] | None,
        typer.Option(
            "--patient", "--patients", metavar="NAME", help="Report only this patient (cirrhotic/12); repeatable."
        ),
    ] = None,
    prepared: PREPARED = None,
    explanations: EXPLANATIONS = Path("explanations"),
    method: METHOD = "grad_cam",
    sequences: MODEL_SEQUENCES = None,
    plugin: PLUGIN = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Patients at a time. [default: one per processor]")] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="tcp://...", help="Address of a Dask scheduler, whose workers make the pages.")
    ] = None,
    limit: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Time limit for one patient.")] = 1800,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make every page again; otherwise unchanged pages are reused.")
    ] = False,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Write the page of the cohort as a single file, which is 5 MB larger.")
    ] = False,
    mask: MASK = None,
    force: FORCE = False,
    device: DEVICE = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print events as JSON, one object per line.")] = False,
) -> None:
    """Report every patient of a cohort.

    Writes a page per patient, an index and tables. An interrupted run resumes.

    --from-dicom imports the new studies of an inbox first, --from-dicomweb those of an archive. studies.csv lists the
    chosen series with the reason, and the refused studies. Credentials of an archive come from netrc, from
    CIRRNB_DICOMWEB_USER and CIRRNB_DICOMWEB_PASSWORD, or from CIRRNB_DICOMWEB_TOKEN.

    Exit code 0: all pages made; 3: some patients failed, see failures.csv; 4: no page made.
    """
    require_home()
    _compute_on(device)
    studied = from_dicom is not None or from_dicomweb is not None
    if cohort is None and not studied:
        raise typer.BadParameter("give a cohort, or DICOM studies with --from-dicom FOLDER or --from-dicomweb URL")
    if (dicom_out is not None or to_dicomweb is not None) and not studied:
        raise typer.BadParameter("--dicom-out and --to-dicomweb need --from-dicom or --from-dicomweb")
    if from_dicomweb is None and (modality != "MR" or body_part or description or date):
        raise typer.BadParameter("--modality, --body-part, --description and --date need --from-dicomweb")
    if studied:
        from cirrnb.archive.chain import StudiesRequest
        from cirrnb.archive.fetching import StudyQuery

        # Here, before an address with a password in it could be written into the record of a run.
        query = StudyQuery(modality, body_part, description, date)
        StudiesRequest(from_dicom, from_dicomweb=from_dicomweb, query=query, to_dicomweb=to_dicomweb).check()
    given = {
        "cohort": str(cohort or Path("cohorts") / out.absolute().name),
        "from_dicom": from_dicom and str(from_dicom),
        "burned_in": burned_in,
        "dicom_out": dicom_out and str(dicom_out),
        "from_dicomweb": from_dicomweb,
        "to_dicomweb": to_dicomweb,
        "modality": modality,
        "body_part": body_part,
        "description": description,
        "date": date,
        "spool": spool and str(spool),
        "pdf": pdf,
        "model": model,
        "report": str(out),
        "patients": [name for text in patients or [] for name in text.split(",") if name],
        "prepared": prepared and str(prepared),
        "explanations": str(explanations),
        "method": method,
        "sequences": sequences,
        "plugin": ",".join(str(file) for file in plugin or []) or None,
        "jobs": jobs,
        "cluster": cluster,
        "limit": limit,
        "fresh": fresh,
        "mask": mask or [],
        "force": force,
        "json_lines": json_lines,
    }
    raise typer.Exit(run_report(given, out, single_file=single_file))


def forget(
    patient: Annotated[str, typer.Argument(help="Subject as in summary.csv (imported/study-...), or its id alone.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the report.")] = Path("reports/nightly"),
    cohort: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of imported studies. [default: cohorts/ and the name of --out]"),
    ] = None,
    prepared: PREPARED = None,
    explanations: EXPLANATIONS = Path("explanations"),
    dicom_out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of results as DICOM, if there is one.")
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder of studies and results in transit. [default: spool/ and the name of --out]"
        ),
    ] = None,
) -> None:
    """Delete one patient from a report and its data.

    Deletes the patient's pages, table rows, scans of the cohort, prepared scans, masks, maps and results. Lists what it
    cannot delete, such as results in an archive.
    """
    from cirrnb.archive.forgetting import Places, forget

    named = cohort or Path("cohorts") / out.absolute().name
    kept = prepared or Path("prepared") / named.absolute().name
    given = (named, kept, explanations, dicom_out, spool or Path("spool") / out.absolute().name)
    places = [place if place is not None and place.is_dir() else None for place in given]
    done = forget(patient, Places(out, *places))
    for path in done.removed:
        typer.echo(f"{'Rewritten' if path.exists() else 'Removed'}: {path}")
    for words in done.unreached:
        typer.echo(f"Not reached: {words}.")


def clean(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Remove what is older: 90d (days), 12h (hours) or 8w (weeks).")
    ],
    prepared: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Folder of prepared scans; repeatable. [default: all in prepared/]"),
    ] = None,
    explanations: EXPLANATIONS = Path("explanations"),
) -> None:
    """Remove old prepared scans, masks and attribution maps.

    Cohorts, runs and reports stay. What is removed is computed again when it is needed.
    """
    from cirrnb.archive.forgetting import clean as clean_folders
    from cirrnb.archive.forgetting import days_of, holds_prepared

    days = days_of(older_than)
    folders = prepared or [path for path in sorted(Path("prepared").glob("*")) if holds_prepared(path)]
    removed = clean_folders(days, folders, [explanations] if explanations.is_dir() else [])
    for path in removed:
        typer.echo(f"Removed: {path}")
    typer.echo(f"{len(removed)} removed from {len(folders)} folders of prepared scans and the maps")


def run_report(parameters: dict[str, Any], out: Path, *, single_file: bool = False) -> int:
    """Execute the notebook of a report and write its page into the report's folder; the exit code.

    A notebook whose kernel dies is run again: what is done already is kept. Raises as `run_notebook`.
    """
    import nbformat

    from cirrnb.data import failure_kinds
    from cirrnb.data.locks import scratch_folder
    from cirrnb.reports.folder import COHORT_PAGE, LINKS, holds_claim
    from cirrnb.run.execution import NotebookError, run_notebook
    from cirrnb.run.publishing import publish, summary_of
    from cirrnb.view.page import Place

    if sys.stderr.isatty():
        typer.echo("Starting the notebook of the report ...", err=True)  # which takes seconds, without a line
    with scratch_folder() as private:
        executed = private / f"{REPORT.stem}.ipynb"
        for attempt in range(TRIES):
            try:
                run_notebook(REPORT, executed, parameters, echo=sys.stdout)
                break
            except NotebookError as error:
                if error.kind != failure_kinds.KERNEL or attempt == TRIES - 1:
                    error.kept = None  # its folder goes
                    raise
        summary = summary_of(nbformat.read(executed, as_version=4)) or {}
        if summary["made"] and holds_claim(out, summary["claim"]):
            publish(executed, place=Place(LINKS, single_file=single_file), out=out / COHORT_PAGE)
    return int(summary["exit_code"])
