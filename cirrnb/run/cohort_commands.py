"""Commands on files: simulate, look over, prepare, segment, import, export and download cohorts.

They are registered in `cirrnb.cli`; nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

import cirrnb
from cirrnb.run.options import (
    BODIES_IN,
    COHORT,
    KEEP_EVERY,
    METHOD,
    MODEL,
    NETWORK,
    PLUGIN,
    PREPARED,
    SCANS,
    SEED,
    SEQUENCES,
    SOME_SKIPPED,
    STAGES,
    START,
    TRAINING_DEVICE,
    WORKERS,
)


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder of the new cohort.")],
    patients: Annotated[
        int | None, typer.Option(min=1, help="Number of patients. [default: 48 for small, 337 otherwise]")
    ] = None,
    seed: SEED = 0,
    scale: Annotated[
        str,
        typer.Option(
            metavar="tiny|small|full",
            help="Pixels of 4 mm, 2 mm, or as published. tiny and full have the published patients.",
        ),
    ] = "small",
    healthy: Annotated[
        int | None, typer.Option(min=0, help="Healthy subjects. [default: 0 for small, 55 otherwise]")
    ] = None,
    twins: Annotated[
        bool,
        typer.Option(
            "--twins", help="Also write counterfactuals: each scan without any sign, and without each sign in turn."
        ),
    ] = False,
    organs: Annotated[
        bool, typer.Option("--organs", help="Also write labels of liver lobes and other organs.")
    ] = False,
    shortcut: Annotated[
        str | None,
        typer.Option(
            metavar="scanner|healthy-a|healthy-b",
            help="Simulate a confounder: the scanner depends on the stage in training patients, or healthy subjects "
            "have another scanner.",
        ),
    ] = None,
    population: Annotated[
        str | None,
        typer.Option(
            metavar="independent|FILE",
            help="How signs depend on severity: not at all, or as a JSON file says. [default: as in the benchmark]",
        ),
    ] = None,
    workers: WORKERS = None,
) -> None:
    """Simulate a cohort.

    It has the layout of CirrMRI600+. latent.csv lists the true strength of each sign, and evidence/ has a map of
    where each sign is visible.
    """
    cohort = cirrnb.simulate_cohort(
        out,
        patients,
        seed,
        scale,
        twins=twins,
        shortcut=shortcut,
        healthy=healthy,
        workers=workers,
        organs=organs,
        population=population,
    )
    typer.echo(f"{len(cohort.patients)} simulated subjects, {len(cohort)} scans, in {out}")


def gallery(
    cohort: Annotated[Path, typer.Argument(help="Folder of a simulated cohort.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Image file to write.")] = Path("gallery.png"),
    real: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of real slices for the first row, listed in its index.csv."),
    ] = None,
    patients: Annotated[int, typer.Option(min=1, help="Patients of each stage.")] = 2,
    slices: Annotated[int, typer.Option(min=1, help="Slices of each scan.")] = 3,
    outline: Annotated[bool, typer.Option("--outline", help="Draw the edge of the liver mask.")] = False,
) -> None:
    """Draw simulated slices of each stage and sequence.

    Real slices can be added for comparison. All slices are shown with the same intensity window.
    """
    from cirrnb.simulation.gallery import real_panels, simulated_panels
    from cirrnb.view.images import draw_gallery

    shares = [0.3 + 0.4 * (place + 0.5) / slices for place in range(slices)]  # of the liver's height
    panels = simulated_panels(cohort, patients, shares)
    columns = min(6, 3 * patients * slices)  # three stages; a sequence begins a new row
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    draw_gallery([*([real_panels(real)] if real else []), *rows], out, outline=outline)
    typer.echo(f"The gallery: {out}")


def audit(
    cohort: COHORT,
    stages: STAGES = None,
    sequences: SEQUENCES = None,
    workers: WORKERS = None,
    checks: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Segment each scan into FOLDER; check whether it shows a liver, its sequence and its sides, and "
            "whether a patient's scans belong together.",
        ),
    ] = None,
) -> None:
    """Describe a cohort and list its problems.

    Every scan is read once. Exit code 1: a problem makes results wrong or a file unusable.
    """
    from cirrnb.data.auditing.audit import audit as audit_cohort

    people: Any = cohort
    if checks is not None:
        from cirrnb.preparation.cohort import with_masks

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the problems stand among the findings
            people = cirrnb.read_cohort(cohort, on_problem="skip", stages=stages, sequences=sequences)
        people = with_masks(people, checks, workers)
    findings = audit_cohort(people, workers=workers, stages=stages, sequences=sequences)
    typer.echo(findings.report())
    if findings.has_errors:
        raise typer.Exit(1)


def prepare(
    cohort: COHORT,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for prepared scans. [default: prepared/ and the name of the cohort]"
        ),
    ] = None,
    view: Annotated[str, typer.Option(metavar="liver|abdomen", help="Centre of the field of view.")] = "liver",
    spacing: Annotated[float, typer.Option(help="In-plane spacing in mm.")] = 2.0,
    stages: STAGES = None,
    sequences: SEQUENCES = None,
    workers: WORKERS = None,
) -> None:
    """Prepare scans for a model.

    Scans get one orientation, field of view, spacing and intensity scale. The defaults are those of the model of the
    package and of cirrnb train. With --view liver, the program segments scans without a mask. Prepared scans are
    reused. Exit code 3: some scans were skipped; each is named with the reason.
    """
    from cirrnb.data.prepared import PreparationSettings

    try:
        settings = PreparationSettings(view=view, spacing=spacing)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the problems are printed below, one a line
        people = cirrnb.read_cohort(cohort, on_problem="skip", stages=stages, sequences=sequences)
    place = out or Path("prepared") / people.name
    prepared = cirrnb.prepare(people, place, settings, workers=workers)
    for problem in people.problems:
        typer.echo(f"skipped: {problem}", err=True)
    for failure in prepared.failures.itertuples():
        typer.echo(f"skipped: {failure.subject} {failure.sequence}: {failure.reason}", err=True)
    typer.echo(f"{len(prepared)} scans prepared in {place}, {len(prepared.failures)} skipped")
    if people.problems or len(prepared.failures):
        raise typer.Exit(SOME_SKIPPED)


def segment(
    cohort: Annotated[Path, typer.Argument(help="Folder or table of scans, or one NIfTI file.")],
    out: Annotated[Path, typer.Argument(help="New folder for masks, organs and the table that lists them.")],
    network: NETWORK = None,
    workers: WORKERS = None,
    program: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Executable of MRSegmentator, which then draws the liver.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="MRSegmentator: use one of its five networks.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="MRSegmentator: use no graphics card.")] = False,
    stages: STAGES = None,
    sequences: SEQUENCES = None,
) -> None:
    """Segment liver and organs, and check every scan.

    Scans that have a mask keep it. New masks are marked as drawn by a program, and implausible ones as doubtful. The
    checks test whether a scan shows a liver, its sequence and its sides, and whether a patient's scans belong together.
    An interrupted run resumes. Exit code 3: some scans got no mask.
    """
    from tqdm.auto import tqdm

    from cirrnb.data.cohort_reading import read_cohort
    from cirrnb.segmentation.checks import PASSED
    from cirrnb.segmentation.cohort import add_masks, segment_one

    if cohort.is_file() and cohort.name.lower().endswith((".nii", ".nii.gz")):
        segmented = segment_one(cohort, out, network)
        if "failure" in segmented:
            typer.echo(f"{cohort.name}: no mask, {segmented['failure']}", err=True)
            raise typer.Exit(SOME_SKIPPED)
        typer.echo("\n".join(f"{organ}: {volume:.0f} mL" for organ, volume in segmented["volumes"].items()))
        typer.echo(f"Written: {segmented['mask']}\nWritten: {segmented['organs']}")
        return
    made = add_masks(
        read_cohort(cohort, stages=stages, sequences=sequences),
        out,
        network=network,
        program=program,
        options=["--fast"] * fast + ["--cpu_only"] * cpu,
        workers=workers,
        progress=lambda items, total, what: iter(tqdm(items, total=total, desc=what)),
    )
    for name, odd in made.drawn.items():
        typer.echo(f"{name}: drawn" + (f", but look at it: {'; '.join(odd)}" if odd else ""))
    for name, reason in made.failed.items():
        typer.echo(f"{name}: no mask, {reason}", err=True)
    for name, checks in made.checks.items():
        for check in checks:
            if check.outcome != PASSED:
                typer.echo(f"{name}: {check.outcome}, {check.reason}. {check.remedy}", err=True)
    typer.echo(f"The table with them: {made.table}")
    if made.failed:
        raise typer.Exit(SOME_SKIPPED)


def train_segmenter(
    out: Annotated[Path, typer.Argument(help="Folder for the segmenter; an interrupted training resumes there.")],
    cohort: Annotated[
        Path | None,
        typer.Option(help="Also train on real scans with liver masks; of a cohort with splits, only on split train."),
    ] = None,
    start: START = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimiser.")] = 8500,
    anatomies: Annotated[int, typer.Option("--bodies", "--anatomies", min=1, help="Simulated bodies.")] = 450,
    keep: Annotated[
        Path | None,
        typer.Option(
            BODIES_IN, "--anatomies-in", metavar="FOLDER", help="Folder for simulated bodies. [default: OUT/anatomies]"
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=1e-6, max=0.1, help="Learning rate.")] = 3e-3,
    keep_every: KEEP_EVERY = 0,
    slices: Annotated[int, typer.Option(min=8, max=512, help="Slices in a step.")] = 16,
    seed: SEED = 0,
    device: TRAINING_DEVICE = "cpu",
) -> None:
    """Train the segmenter.

    It learns from simulated bodies, and with --cohort also from real scans with liver masks.
    """
    from tqdm.auto import tqdm

    from cirrnb.model.torch_context import usable_device
    from cirrnb.segmentation.slabs import Mixture
    from cirrnb.segmentation.training import TrainingSettings
    from cirrnb.segmentation.training import train_segmenter as train
    from cirrnb.segmentation.weights import shipped_folder

    usable_device(device)
    begin = shipped_folder() if start == "shipped" else Path(start) if start else None
    mixture = Mixture(seed=seed, slices=slices)
    settings = TrainingSettings(steps=steps, rate=rate, anatomies=anatomies, keep_every=keep_every, mixture=mixture)
    made = train(
        out,
        settings,
        cohort=cohort,
        start=begin,
        anatomies=keep,
        device=device,
        progress=lambda items, total, what: iter(tqdm(items, total=total, desc=what)),
    )
    typer.echo(f"Written: {made}. Use it: cirrnb segment COHORT OUT --network {made}")


def fit_checks(
    out: Annotated[Path, typer.Argument(help="Folder for the fitted files; an interrupted fit resumes there.")],
    network: NETWORK = None,
    bodies: Annotated[int, typer.Option(min=4, help="Simulated bodies, with 21 volumes each.")] = 80,
    patients: Annotated[
        int, typer.Option(min=4, help="Simulated patients, for the check whether scans belong together.")
    ] = 60,
    anatomies: Annotated[
        Path | None,
        typer.Option(
            BODIES_IN, "--anatomies", metavar="FOLDER", help="Folder of simulated bodies of a training, to reuse them."
        ),
    ] = None,
) -> None:
    """Fit the checks of a segmenter on simulated patients.

    The out-of-distribution score is fitted too. To use the files that are written, copy them into the segmenter's
    folder.
    """
    from tqdm.auto import tqdm

    from cirrnb.segmentation.check_fitting import fit_checks as fit
    from cirrnb.segmentation.unusual import ARRAYS, SETTINGS
    from cirrnb.segmentation.unusual_fitting import fit_score

    def watched(jobs: Iterator[Any], total: int) -> Iterator[Any]:
        return iter(tqdm(jobs, total=total, desc="observing"))

    fit(out, network, bodies=bodies, patients=patients, progress=watched)
    fit_score(out, out / "patients", network, anatomies=anatomies, progress=watched)
    names = ", ".join(("checks.json", SETTINGS, ARRAYS))
    typer.echo(f"Written: {names} in {out}. Use them: copy them into the segmenter's folder")


def export(
    cohort: SCANS,
    out: Annotated[Path, typer.Argument(help="Folder for the files.")],
    patient: Annotated[
        str | None, typer.Option(help="Patient, for example imported/case-1. [default: the only one]")
    ] = None,
    dicom: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="DICOM folder from which the scans were imported; also write DICOM segmentation objects.",
        ),
    ] = None,
    model: MODEL = "shipped",
    method: METHOD = "integrated_gradients",
    prepared: PREPARED = None,
    plugin: PLUGIN = None,
) -> None:
    """Write a patient's liver masks and attribution maps as files.

    The files are NIfTI on the grid of each scan, and with --dicom also DICOM segmentation objects, which carry the
    patient's name.
    """
    from cirrnb.data.plugins import load_plugins
    from cirrnb.run.export import export as export_case

    load_plugins(plugin)

    for path in export_case(
        cohort, out, patient, dicom=dicom, model=model, method=method, prepared=prepared, tell=typer.echo
    ):
        typer.echo(f"Written: {path}")


def download(
    data_set: Annotated[str, typer.Argument(metavar="NAME", help="cirrmri600, the published cohort (about 15 GB).")],
    out: Annotated[Path | None, typer.Argument(help="Folder for the cohort. [default: cohorts/NAME]")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="ARCHIVE", help="Download only this archive (Cirrhosis_T2_3D); repeatable."),
    ] = None,
    agree: Annotated[bool, typer.Option("--agree", help="You have read the licence and agree to it.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archives after unpacking.")] = False,
) -> None:
    """Download a published cohort.

    Its licence is shown first. An interrupted download resumes. Checksums are verified.
    """
    from cirrnb.data.download import dataset

    known = dataset.data_set_named(data_set)
    typer.echo(dataset.terms(known))
    agreed = agree or (sys.stdin.isatty() and input("Do you agree? Type yes: ").strip().lower() == "yes")
    place = dataset.download(known, out or Path("cohorts") / data_set, agreed=agreed, only=only or (), keep=keep)
    typer.echo(f"Look it over: cirrnb audit {place}")


def import_dicom(
    folder: Annotated[Path, typer.Argument(help="Folder with DICOM files, at any depth.")],
    out: Annotated[
        Path | None,
        typer.Argument(help="Folder of the cohort, new or existing; without it, the series are only listed."),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Only list the series and their kinds.")] = False,
    t1w: Annotated[int | None, typer.Option(min=0, help="Number of the T1W series in the list; 0: none.")] = None,
    t2w: Annotated[int | None, typer.Option(min=0, help="Number of the T2W series in the list; 0: none.")] = None,
    patient: Annotated[
        int | None, typer.Option(min=1, help="Number of the patient, if the folder has several.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="New name of the patient. [default: case-1, ...]")] = None,
    others: Annotated[bool, typer.Option("--others", help="Also convert series other than T1W and T2W.")] = False,
) -> None:
    """Convert a DICOM folder into a cohort without names.

    Needs the extra [dicom]. Each series is listed with its kind and the reason. If it is unclear which series is T1W or
    T2W, you are asked. Next: cirrnb audit OUT. Exit code 3: nothing that was imported can be staged.
    """
    from cirrnb.run.dicom import import_folder

    if not import_folder(
        folder, None if listing else out, t1w=t1w, t2w=t2w, patient=patient, name=name, others=others, tell=typer.echo
    ):
        raise typer.Exit(SOME_SKIPPED)
