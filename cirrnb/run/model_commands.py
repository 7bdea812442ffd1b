"""Commands around models: train a stager on endless simulated patients, calibrate it, adapt one to a site, test it on
scans with planted signs.

They are registered in `cirrnb.cli`; nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cirrnb
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.run.options import (
    BODIES_IN,
    COHORT,
    KEEP_EVERY,
    MODEL,
    MODEL_SEQUENCES,
    PREPARED,
    SEED,
    START,
    TRAINING_DEVICE,
)
from cirrnb.run.process import require_home

DRAW_ANEW = Annotated[bool, typer.Option("--draw-anew", help="Segment the scans again, even if the cohort has masks.")]


def adapt(
    cohort: COHORT,
    out: Annotated[Path, typer.Argument(help="New folder for the adapted model.")],
    model: MODEL = "shipped",
    use_stages: Annotated[
        bool, typer.Option("--use-stages", help="Also fit the thresholds between stages to the stages of the cohort.")
    ] = False,
    prepared: PREPARED = None,
    sequences: MODEL_SEQUENCES = None,
) -> None:
    """Adapt a trained stager to the scans of a site.

    Needs 30 patients or more. Stages are not needed. The adapted model is used as any other: cirrnb explore COHORT
    --model OUT. The adaptation assumes that the site's stages are distributed as those of the training patients. With
    --use-stages, do not score the model on the same patients.
    """
    require_home()
    from cirrnb.model.trained_model import load_model

    vocabulary = load_model(model).vocabulary(sequences)
    site = cirrnb.read_cohort(cohort, on_problem="skip", **vocabulary)
    for problem in site.problems:
        typer.echo(f"skipped: {problem}", err=True)
    staged = [str(subject) for subject in site.patients.index[site.patients["stage"].notna()]]
    adapted = cirrnb.adapt(model, site, out, stages_of=staged if use_stages else (), prepared=prepared, progress=True)
    assert adapted.adaptation is not None
    typer.echo(f"{adapted.name}: {adapted.adaptation.sentence}. The model: {out}")


def train_simulated(
    out: Annotated[Path, typer.Argument(help="Folder for the stager; an interrupted training resumes there.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimiser.")] = 10_000,
    patients: Annotated[int, typer.Option(min=1, help="Simulated bodies.")] = 1000,
    occasions: Annotated[
        int,
        typer.Option(min=0, max=99, help="Scans kept of each body and sequence; 0: simulate a new one for every step."),
    ] = 4,
    patients_per_step: Annotated[int, typer.Option(min=1, help="Patients in a step.")] = 8,
    bodies: Annotated[
        Path | None,
        typer.Option(BODIES_IN, metavar="FOLDER", help="Folder for simulated bodies. [default: OUT/bodies]"),
    ] = None,
    start: START = None,
    rate: Annotated[float, typer.Option(min=1e-6, max=0.1, help="Peak learning rate.")] = 7e-4,
    fall: Annotated[
        float,
        typer.Option(min=0, max=1, help="Proportion of the steps, at the end, in which the learning rate decays."),
    ] = 0.7,
    precision: Annotated[str, typer.Option(metavar="float32|bfloat16", help="Precision of the network.")] = "bfloat16",
    population: Annotated[
        str,
        typer.Option(
            metavar="mixed|independent",
            help="Patients: of all populations, or only those whose signs are independent of each other.",
        ),
    ] = "mixed",
    signs_only: Annotated[
        bool, typer.Option("--signs-only", help="Train the signs and not the stage: for cirrnb add-sign-reader.")
    ] = False,
    organs: Annotated[
        bool, typer.Option("--organs", help="Also learn to name the organs pixel by pixel, which helps small signs.")
    ] = False,
    cohort: Annotated[
        Path | None,
        typer.Option(metavar="COHORT", help="Simulated cohort whose patients make up half of each step."),
    ] = None,
    keep_every: KEEP_EVERY = 0,
    seed: SEED = 0,
    device: TRAINING_DEVICE = "cpu",
    readers: Annotated[
        int, typer.Option("--workers", "--readers", min=0, max=256, help="Worker processes that simulate patients.")
    ] = 2,
) -> None:
    """Train a stager with sign outputs on simulated patients.

    The patients are of many populations and contrasts. Next: cirrnb calibrate OUT COHORT.
    """
    from tqdm.auto import tqdm

    from cirrnb.model.calibrate import LATENT
    from cirrnb.model.endless import PREPARATION, EndlessSettings, train_endless
    from cirrnb.model.known_patients import known_patients

    settings = EndlessSettings(
        steps=steps,
        rate=rate,
        fall=fall,
        precision=precision,
        patients=patients,
        occasions=occasions,
        patients_per_step=patients_per_step,
        population=population,
        stage_weight=0.0 if signs_only else 1.0,
        organ_weight=0.5 if organs else 0.0,
        known_share=0.5 if cohort else 0.0,
        keep_every=keep_every,
        seed=seed,
    )
    known = None
    if cohort is not None:
        prepared = cirrnb.prepare(cirrnb.read_cohort(cohort), out / "prepared", PREPARATION, masks="given")
        known = known_patients(prepared.bags(), cohort / LATENT, settings.stager.signs, settings.stager.sequences)
    made = train_endless(
        out,
        settings,
        known=known,
        bodies=bodies,
        start=start,
        device=device,
        readers=readers,
        progress=lambda items, total, what: iter(tqdm(items, total=total, desc=what)),
    )
    typer.echo(f"Written: {made}. Next: cirrnb calibrate {made} COHORT; until then its percentages only rank patients.")


def train_sign_maps(
    run: Annotated[Path, typer.Argument(help="Folder of a stager with sign outputs.")],
    cohort: Annotated[Path, typer.Argument(help="Simulated cohort, whose signs are known pixel by pixel.")],
    out: Annotated[Path, typer.Argument(help="New folder for the stager with maps.")],
    passes: Annotated[int, typer.Option(min=1, help="Passes over the patients.")] = 4,
    prepared: PREPARED = None,
    seed: SEED = 0,
) -> None:
    """Train maps of the signs for a stager.

    Its stages do not change. Next: cirrnb calibrate OUT COHORT.
    """
    require_home()
    from cirrnb.explanation.sign_maps import train_sign_maps as train
    from cirrnb.explanation.simulated_truth import SimulatedTruth
    from cirrnb.model.patients import prepared_for
    from cirrnb.model.trained_model import load_model

    model, truth = load_model(run), SimulatedTruth(cohort)
    bags = prepared_for(model, cirrnb.read_cohort(cohort, **model.vocabulary()), prepared, progress=True).bags()
    train(run, bags, truth, out=out, passes=passes, seed=seed, progress=True)
    typer.echo(f"Written: {out}. Next: cirrnb calibrate {out} COHORT, with patients that it has not seen.")


def add_sign_reader(
    model: Annotated[str, typer.Argument(help="Folder of the model; shipped: the model of the package.")],
    reader: Annotated[Path, typer.Argument(help="Folder of the network that shall read the signs.")],
    cohort: Annotated[Path, typer.Argument(help="Simulated cohort that neither network has seen.")],
    out: Annotated[Path, typer.Argument(help="New folder for the model with that network.")],
    independent: Annotated[
        Path | None,
        typer.Option(
            metavar="COHORT",
            help="Simulated cohort with independent signs: nodules are then measured, and how is fitted to it.",
        ),
    ] = None,
    leave: Annotated[
        list[str] | None,
        typer.Option(metavar="SIGN", help="Sign that the model goes on giving itself; may be given several times."),
    ] = None,
    draw_anew: DRAW_ANEW = False,
    prepared: PREPARED = None,
) -> None:
    """Let another network read the signs of a model.

    The stages of the model do not change. The intervals of the signs are fitted to the cohort.
    """
    require_home()
    from cirrnb.data.given_masks import without_masks
    from cirrnb.model.calibrate import LATENT
    from cirrnb.model.patients import prepared_for
    from cirrnb.model.sign_reader import add_sign_reader as add
    from cirrnb.model.trained_model import load_model

    def read(folder: Path) -> PreparedCohort:
        patients = cirrnb.read_cohort(folder)
        patients = without_masks(patients) if draw_anew else patients
        place = Path("prepared") / f"{patients.name}-drawn-anew" if draw_anew else None
        return prepared_for(load_model(model), patients, prepared if folder == cohort and prepared else place)

    measured = (read(independent), independent / LATENT) if independent else None
    made = add(
        *(model, reader, read(cohort)),
        truth=cohort / LATENT,
        out=out,
        leave=leave or (),
        independent=measured,
        progress=True,
    )
    typer.echo(f"Written: {out}. Its signs: {', '.join(made.signs)}. How well each is read: docs/signs_read.py")


def calibrate(
    run: Annotated[Path, typer.Argument(help="Folder of a stager; calibration is written into it.")],
    cohort: Annotated[Path, typer.Argument(help="Patients with stages that the stager has not seen.")],
    measurements: Annotated[
        bool, typer.Option("--measurements", help="Let the stage also depend on measurements of the organs.")
    ] = False,
    draw_anew: DRAW_ANEW = False,
    prepared: PREPARED = None,
) -> None:
    """Calibrate a stager on patients with stages.

    Fits its probabilities and prediction sets. If the cohort is simulated, also fits the intervals of its signs.
    """
    require_home()
    from cirrnb.data.given_masks import without_masks
    from cirrnb.model.calibrate import LATENT
    from cirrnb.model.calibrate import calibrate as learn
    from cirrnb.model.trained_model import load_model

    patients = cirrnb.read_cohort(cohort, **load_model(run).vocabulary())
    if draw_anew:
        patients = without_masks(patients)
        prepared = prepared or Path("prepared") / f"{patients.name}-drawn-anew"
    truth = cohort / LATENT if patients.simulated and (cohort / LATENT).is_file() else None
    model = learn(run, patients, truth=truth, measurements=measurements, prepared=prepared, progress=True)
    assert model.calibration is not None
    signs = ", and intervals of its signs" if model.sign_intervals else ""
    typer.echo(f"{run}: temperature {model.calibration.temperature:.2f}, sets of stages{signs}")


def export_model(
    run: Annotated[str, typer.Argument(help="Folder of a trained stager; shipped: the model of the package.")],
    out: Annotated[Path, typer.Argument(help="New folder for TorchScript files and model.json.")],
) -> None:
    """Write a stager as TorchScript.

    The files work without this package. Their probabilities are compared with those of the stager first.
    """
    require_home()
    from cirrnb.model.exporting import export_model as write

    made = write(run, out)
    typer.echo(f"Written: {', '.join(sorted(path.name for path in made.iterdir()))} in {made}")


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a report, run folder, or CSV table of predictions.")],
    second: Annotated[Path, typer.Argument(help="Another report, run folder or table with the same patients.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.csv", help="Also write the changed patients as a table.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples.")] = 2000,
) -> None:
    """Compare two reports on the same patients.

    Lists the patients whose predicted stage differs, with the signs that changed. If stages are recorded, also gives
    paired differences of the metrics.
    """
    from cirrnb.data.csv_file import write_csv
    from cirrnb.evaluation.external import changed_answers, interval_texts, paired_differences, read_answers, scale_of

    tables = [read_answers(path) for path in (first, second)]
    stages = scale_of(tables)
    changed = changed_answers(tables[0], tables[1], stages)
    both = set(tables[0]["subject"]) & set(tables[1]["subject"])
    typer.echo(f"{len(changed)} of {len(both)} patients are staged otherwise (a: {first}, b: {second})")
    for row in changed.to_dict(orient="records"):
        recorded = f", recorded {row['stage']}" if row["stage"] is not None else ""
        signs = f"; {row['signs']}" if row["signs"] else ""
        typer.echo(f"  {row['subject']}: {row['a']} -> {row['b']}{recorded}{signs}")
    if out is not None:
        write_csv(out, changed)
        typer.echo(f"The table: {out}")
    pair = [table[table["subject"].isin(both)] for table in tables]
    if min(int((table["stage"].notna() & table["predicted"].notna()).sum()) for table in pair) < 2:
        typer.echo("Too few patients with a recorded stage for paired differences.")
        return
    differences = paired_differences(pair[0], pair[1], resamples=resamples, stages=stages)
    for name, text in zip(differences["metric"], interval_texts(differences), strict=True):
        typer.echo(f"{name}, a less b: {text}")


def plant(
    scan: Annotated[Path, typer.Argument(help="NIfTI file of a liver without signs of disease.")],
    out: Annotated[Path, typer.Argument(help="Folder for the changed scan; it is a cohort.")],
    sequence: Annotated[str, typer.Option(metavar="T1W|T2W", help="Sequence of the scan.")],
    signs: Annotated[
        str,
        typer.Option(
            metavar="NAME=STRENGTH,...", help="Strengths of nodularity, nodules, lobes, spleen and ascites, 0 to 1."
        ),
    ] = "nodularity=0.6,nodules=0.6,lobes=0.6,spleen=0.6,ascites=0.6",
    seed: SEED = 0,
) -> None:
    """Plant signs of known strength into a scan.

    With it you can test whether a model notices the signs: cirrnb explore OUT. The result is not the scan of a patient.
    """
    from cirrnb.segmentation.planted_scans import plant_file

    table = plant_file(scan, out, sequence, _strengths(signs), seed=seed)
    typer.echo(f"The changed scan: {table}. Look at it: cirrnb explore {table.parent}")


def _strengths(text: str) -> dict[str, float]:
    """Signs and strengths of "nodularity=0.5,ascites=1"."""
    strengths = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, given, value = pair.partition("=")
        try:
            strengths[name.strip()] = float(value)
        except ValueError:
            given = ""
        if not given:
            raise InputError("--signs", repr(pair), "NAME=STRENGTH, as ascites=0.5", "Correct it.")
    return strengths
