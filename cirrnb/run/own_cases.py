"""Commands for one's own cases: masks drawn by a program, files that leave, a published cohort, a DICOM folder.

They are registered in `cirrnb.cli`; nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

SOME_LEFT_OUT = 3
"""Exit code of a command that did its work, but not for every scan."""


def segment(
    cohort: Annotated[Path, typer.Argument(help="Folder or table of scans, as for explore.")],
    out: Annotated[Path, typer.Argument(help="New folder for the masks and a table that names them.")],
    program: Annotated[
        Path | None, typer.Option(metavar="FILE", help="MRSegmentator's program, in an environment of its own.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="One of its five networks: faster, less exact.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Without a graphics card.")] = False,
) -> None:
    """Have MRSegmentator draw the liver where nobody has; its masks are marked as such, and doubted where odd.

    Exit code 3 says that some scans got none.
    """
    from cirrnb.data.masks.cohort import add_masks

    made = add_masks(cohort, out, program=program, options=["--fast"] * fast + ["--cpu_only"] * cpu)
    for name, odd in made.drawn.items():
        typer.echo(f"{name}: drawn" + (f", but look at it: {'; '.join(odd)}" if odd else ""))
    for name, reason in made.failed.items():
        typer.echo(f"{name}: no mask, {reason}", err=True)
    typer.echo(f"The table with them: {made.table}")
    if made.failed:
        raise typer.Exit(SOME_LEFT_OUT)


def export(
    cohort: Annotated[Path, typer.Argument(help="Folder or table of scans, as for explore.")],
    out: Annotated[Path, typer.Argument(help="Folder for the files.")],
    patient: Annotated[str | None, typer.Option(help="Whose, for example imported/case-1.")] = None,
    dicom: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="DICOM folder the scans came from: segmentation objects too.")
    ] = None,
    run: Annotated[str, typer.Option(help="Folder of a trained stager, or the model of the package.")] = "shipped",
    method: Annotated[str, typer.Option(help="The map to write.")] = "integrated_gradients",
    prepared: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Prepared scans, as for explore.")] = None,
) -> None:
    """Write a patient's liver mask and map for other programs: NIfTI, and with --dicom DICOM segmentation objects.

    Segmentation objects carry the patient's name as the DICOM series does that they point at.
    """
    from cirrnb.run.export import export as export_case

    for path in export_case(
        cohort, out, patient, dicom=dicom, run=run, method=method, prepared=prepared, tell=typer.echo
    ):
        typer.echo(f"Written: {path}")


def download(
    data_set: Annotated[str, typer.Argument(metavar="NAME", help="cirrmri600, the published cohort (about 15 GB).")],
    out: Annotated[Path | None, typer.Argument(help="Folder for it. [default: cohorts/NAME]")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ARCHIVE", help="Only this one (Cirrhosis_T2_3D); repeatable.")
    ] = None,
    agree: Annotated[bool, typer.Option("--agree", help="You have read the licence and agree to it.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archives once they are unpacked.")] = False,
) -> None:
    """Fetch a published cohort: its licence first; goes on where it stopped; checksums are verified."""
    from cirrnb.data.download import dataset

    known = dataset.data_set_named(data_set)
    typer.echo(dataset.terms(known))
    agreed = agree or (sys.stdin.isatty() and input("Do you agree? Type yes: ").strip().lower() == "yes")
    place = dataset.download(known, out or Path("cohorts") / data_set, agreed=agreed, only=only or (), keep=keep)
    typer.echo(f"Look it over: cirrnb audit {place}")


def import_dicom(
    folder: Annotated[Path, typer.Argument(help="Folder with DICOM files, at any depth.")],
    out: Annotated[Path | None, typer.Argument(help="Folder of the cohort; added to if it is there.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Only list the series and what each is taken for.")] = False,
    t1w: Annotated[int | None, typer.Option(min=0, help="Number of the T1W series in the listing; 0 for none.")] = None,
    t2w: Annotated[int | None, typer.Option(min=0, help="Number of the T2W series in the listing; 0 for none.")] = None,
    patient: Annotated[int | None, typer.Option(min=1, help="Whose series, where several patients lie there.")] = None,
    name: Annotated[
        str | None, typer.Option(help="What the patient is called from now on. [default: case-1, ...]")
    ] = None,
    others: Annotated[bool, typer.Option("--others", help="Convert also what cannot be staged.")] = False,
) -> None:
    """Turn a DICOM folder into a cohort of NIfTI files, without anybody's name (needs the extra [dicom]).

    Series are listed with what each is taken for and why; where it is not clear which is T1W or T2W you are asked.
    Exit code 3 says that something was imported and nothing of it can be staged.
    """
    from cirrnb.run.dicom import import_folder

    if not import_folder(
        folder, None if listing else out, t1w=t1w, t2w=t2w, patient=patient, name=name, others=others, tell=typer.echo
    ):
        raise typer.Exit(SOME_LEFT_OUT)
