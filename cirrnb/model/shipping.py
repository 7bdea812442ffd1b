"""Putting a model into the package: `python -m cirrnb.model.shipping RUN`, for maintainers.

Copied are the settings, weights and calibration of a calibrated stager, the intervals of its signs, the features of its
training scans, and the stages and predictions of the calibration patients, sorted and without names. A card says what
the model was trained on and what its limits are.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from cirrnb.data.atomic_files import atomic_folder
from cirrnb.data.errors import InputError
from cirrnb.model.calibration import CALIBRATION
from cirrnb.model.checkpoint import CONFIG, WEIGHTS
from cirrnb.model.measured_signs import MEASURED_SIGNS
from cirrnb.model.measured_stage import MEASURED_STAGE
from cirrnb.model.out_of_distribution import OUT_OF_DISTRIBUTION
from cirrnb.model.provenance import versions
from cirrnb.model.run_folder import TRAINING
from cirrnb.model.signs import SIGNS_FILE
from cirrnb.model.trained_model import FOLDS, SHIPPED, SIGN_READER, TrainedModel, load_model

LIMIT = 5_000_000
"""Bytes that a model in the package may have."""
CARD = "card.md"
FILES = (CONFIG, WEIGHTS, CALIBRATION, OUT_OF_DISTRIBUTION, SIGNS_FILE, MEASURED_SIGNS, MEASURED_STAGE, TRAINING)
"""What is copied of a run folder, beside the network that reads the signs."""

LIMITS = """\
## Limits

- **Readers.** The model imitates the stages of one simulated reader, whose noise is 0.12 standard deviations of
  severity. How well radiologists agree on mild, moderate and severe in CirrMRI600+ is **unknown**. Agreement with a
  reader does not prove that the stage is right.
- **Licence.** The package and this model are Apache-2.0, and no real scan was used to train it. CirrMRI600+ is CC
  BY-NC 4.0: the cohort, and what is derived from it, must not be used commercially.
- **Automation bias.** Readers of any experience follow a wrong answer if they see it first (Dratsch et al., Radiology
  2023;307:e222176). The explorer and the course therefore show the images first.
- **Moderate** patients are often called mild or severe.
- **Confounders.** It was trained only on the scanners, contrast agents and diseases of the simulator. It may use
  anything that predicted the stage there; docs/benchmark.md has an example with a scanner.
- **Attribution maps** show what influenced the answer, not where the disease is: docs/reading_an_attribution.md.
"""


def ship(run: Path | str, out: Path | str = Path(__file__).parent / SHIPPED) -> Path:
    """Copy a stager that `cirrnb.model.calibrate.calibrate` calibrated into `out`, with a card; returns `out`.

    Raises InputError if the folder is no single stager that is calibrated, or its weights are larger than `LIMIT`.
    """
    run, out = Path(run), Path(out)
    model = load_model(run)
    if (run / FOLDS).is_file() or model.calibration is None or not (run / TRAINING).is_file():
        raise InputError(run, "no calibrated stager", "what cirrnb calibrate leaves", "Use cirrnb calibrate.")
    size = sum(path.stat().st_size for path in (run / WEIGHTS, run / SIGN_READER / WEIGHTS) if path.is_file())
    if size > LIMIT:
        raise InputError(run / WEIGHTS, f"{size:,} bytes", f"at most {LIMIT:,}", "Train a smaller stager.")
    with atomic_folder(out) as partial:
        for file in (*FILES, *(f"{SIGN_READER}/{name}" for name in (CONFIG, WEIGHTS))):
            if (run / file).is_file():
                (partial / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(run / file, partial / file)
        (partial / CARD).write_text(_card(model), encoding="utf-8")
    return out


def _card(model: TrainedModel) -> str:
    first, calibration = model.members[0], model.calibration
    assert calibration is not None
    training = first.config["training"]
    origin = "**simulated** patients: its answers mean nothing for a patient" if model.simulated else "real patients"
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    sequences = " and ".join(first.stager.settings.sequences)
    signs = ", ".join(model.signs) or "none"
    terms = ", ".join(model.measured.names) if model.measured else "the network alone"
    maps = "; a map of each sign" if model.for_signs.members[0].stager.settings.maps else ""
    reader = "- Signs: read by a second network, which does not change the stage.\n" if model.sign_reader else ""
    return f"""\
# The model that comes with the package

Estimates the stage of liver cirrhosis ({model.stages.listed}) from {sequences} MRI.
**Research and education only**: not a medical device, no diagnosis. Trained on {origin}.

- Model: one stager; its weights are a moving average over the training. Sign outputs: {signs}{maps}.
{reader}- The stage depends on: {terms}.
- Training patients: {first.config["cohort"]}.
- Input: scans prepared with {model.preparation}.
- Calibration: {calibration.how}; temperature {calibration.temperature:.2f}.
- Predictions for the calibration patients: in `{TRAINING}`, without names.
- Versions: {used}.

{LIMITS}
## Training

`docs/stager.md` has the commands, and `docs/stager_trials.md` the trials with their results.

## Settings

```
{json.dumps(training, indent=1)}
```
"""


if __name__ == "__main__":
    print(ship(sys.argv[1]))
