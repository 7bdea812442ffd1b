"""Putting a model into the package: `python -m cirrnb.model.shipping RUN COHORT`, for maintainers.

What is copied are the first folds of a cross-validation, as many as fit into `LIMIT`, and the calibration learned from
all of its folds. The card beside them says what they were trained on; of the patients go along their stage and what the
stager said that had not seen them, sorted and without a name.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from cirrnb.data.atomic_files import atomic_folder
from cirrnb.data.cohort_reading import SIMULATED
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import parse_json, read_object, read_text
from cirrnb.model.calibration import CALIBRATION, read_calibration
from cirrnb.model.checkpoint import CONFIG, WEIGHTS, TrainedStager
from cirrnb.model.out_of_distribution import OUT_OF_DISTRIBUTION, out_of_distribution_file
from cirrnb.model.run_folder import PROVENANCE, TRAINING, nameless_answers
from cirrnb.model.trained_model import FOLDS, SHIPPED, load_model

LIMIT = 5_000_000
"""Bytes that a model in the package may have."""
CARD = "card.md"

LIMITS = """\
## What is not known, and what goes wrong

- **Readers.** The stages it imitates are one reader's impression; in the simulation that reader has a noise of 0.12
  standard deviations. How far radiologists agree on mild, moderate and severe in CirrMRI600+ is **unknown**.
  Agreement with one reader is not agreement with the disease.
- **Licence.** The package and this model are Apache-2.0, and no real scan went into it. CirrMRI600+ is CC BY-NC 4.0:
  it, and what is made from it, is not for commercial use.
- **Automation bias.** Readers follow a wrong answer when they see it first, whatever their experience (Dratsch et
  al., Radiology 2023;307:e222176). The explorer and the course show the images first for that reason.
- **Moderate** patients are often told mild or severe. What it was shown of scanners, contrast agents and diseases is
  what the simulator knows, and whatever told the stage in training it may have learnt: docs/benchmark.md tells of a
  scanner.
- **Maps** of what it used are not maps of disease: docs/reading_an_attribution.md.
"""


def ship(run: Path | str, cohort: Path | str, out: Path | str = Path(__file__).parent / SHIPPED) -> Path:
    """Copy the folds of a cross-validation's folder that fit into `out`, with calibration and card; returns `out`.

    `cohort` is the simulated cohort it was trained on: the card tells the simulator's version.

    Raises InputError if the folder is no calibrated cross-validation, or its first fold is larger than `LIMIT`.
    """
    run, out = Path(run), Path(out)
    drawn = _simulator(Path(cohort) / SIMULATED)
    if not (run / FOLDS).is_file() or read_calibration(run) is None:
        raise InputError(run, "no cross-validation", f"{FOLDS} and {CALIBRATION}", "Use cirrnb.cross_validate.")
    model = load_model(run)
    names: list[str] = []
    for member in model.members:
        if sum(_size(run / name) for name in (*names, member.name)) > LIMIT:
            break
        names.append(member.name)
    if not names:
        raise InputError(run, f"a first fold of {_size(run / model.members[0].name)} bytes", f"{LIMIT}", "Ship less.")
    with atomic_folder(out) as partial:
        for name in names:
            (partial / name).mkdir()
            for file in (CONFIG, WEIGHTS):
                shutil.copyfile(run / name / file, partial / name / file)
        shutil.copyfile(run / CALIBRATION, partial / CALIBRATION)
        usual = out_of_distribution_file(run)
        if usual is not None:
            shutil.copyfile(usual, partial / OUT_OF_DISTRIBUTION)
        answers = nameless_answers(model, run)
        if answers is not None:
            write_csv(partial / TRAINING, answers)
        (partial / FOLDS).write_text(json.dumps({"folds": names}, indent=1) + "\n", encoding="utf-8")
        (partial / CARD).write_text(_card(run, model.members[0], names, len(model.members), drawn), encoding="utf-8")
    return out


def _size(folder: Path) -> int:
    return sum((folder / file).stat().st_size for file in (CONFIG, WEIGHTS))


def _simulator(mark: Path) -> str:
    """Version and source hash of the simulator that drew a cohort."""
    try:
        text = read_text(mark)
        request = parse_json(text[text.index("{") :])
        return f"version {request['version']} of the simulator (source hash {request['source']})"
    except (OSError, ValueError, KeyError) as error:
        raise InputError(mark, "no word of who drew the cohort", "what cirrnb simulate leaves", "Name it.") from error


def _card(run: Path, first: TrainedStager, names: list[str], folds: int, drawn: str) -> str:
    calibration = read_calibration(run)
    assert calibration is not None
    provenance = read_object(run / names[0] / PROVENANCE, "a whole file", "Train again.")
    origin = "**simulated** patients: its answers mean nothing for a patient" if first.simulated else "real patients"
    patients = sum(first.config["splits"]["train"].values())
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    settings = json.dumps(first.config["training"], indent=1)
    sequences = " and ".join(first.stager.settings.sequences)
    return f"""\
# The model that comes with the package

Estimates the stage of liver cirrhosis ({first.stager.stages.listed}) from {sequences} MRI.
**Research and education only**: not a medical device, no diagnosis. Trained on {origin}.

- What: {len(names)} of the {folds} stagers of a cross-validation ({", ".join(names)}), their probabilities averaged.
- Trained on: cohort "{first.config["cohort"]}", {patients} patients each, drawn by {drawn}.
- Looks at: scans prepared with {first.preparation}.
- Calibration: {calibration.how}; temperature {calibration.temperature:.2f}.
- Answers for training patients: each by the fold that had not seen them, without names (`{TRAINING}`).
- Versions: {versions}.

{LIMITS}
## Made by

```
cirrnb simulate cohorts/development --patients 240 --seed 7
cirrnb train --cohort cohorts/development --run runs/development --folds 5
python -m cirrnb.model.shipping runs/development cohorts/development
python docs/subgroups.py
```

## Settings

```
{settings}
```
"""


if __name__ == "__main__":
    print(ship(sys.argv[1], sys.argv[2]))
