"""Commands on trained models: adapt one to a site.

They are registered in `cirrnb.cli`; nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cirrnb
from cirrnb.run.options import COHORT, MODEL, MODEL_SEQUENCES, PREPARED
from cirrnb.run.process import require_home


def adapt(
    cohort: COHORT,
    out: Annotated[Path, typer.Argument(help="Folder of the adapted model, to be made.")],
    run: MODEL = "shipped",
    use_stages: Annotated[
        bool, typer.Option("--use-stages", help="Also fit thresholds to the stages that the cohort has.")
    ] = False,
    prepared: PREPARED = None,
    sequences: MODEL_SEQUENCES = None,
) -> None:
    """Adapt a trained stager to the scans of a site; 30 patients or more, stages are not needed.

    The result is a model: name its folder with --run. It assumes that the site's patients are as ill as those the
    stager was trained on. Do not score it on the patients it was adapted to if their stages were used.
    """
    require_home()
    from cirrnb.model.trained_model import load_model

    vocabulary = load_model(run).vocabulary(sequences)
    site = cirrnb.read_cohort(cohort, on_problem="skip", **vocabulary)
    for problem in site.problems:
        typer.echo(f"skipped: {problem}", err=True)
    staged = [str(subject) for subject in site.patients.index[site.patients["stage"].notna()]]
    adapted = cirrnb.adapt(run, site, out, stages_of=staged if use_stages else (), prepared=prepared, progress=True)
    assert adapted.adaptation is not None
    typer.echo(f"{adapted.name}: {adapted.adaptation.sentence}. The model: {out}")
