"""What a model is, in a few lines for whoever reads its answers."""

from __future__ import annotations

from pathlib import Path

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.model.provenance import versions
from cirrnb.model.trained import TrainedModel


def _told_apart(stages: StageScale) -> str:
    if stages == CIRRHOSIS:
        return "mild, moderate or severe as a radiologist's overall impression, neither histology nor Child-Pugh"
    return "; ".join(name if words == name else f"{name}: {words}" for name, words in stages.description.items())


def card(model: TrainedModel) -> dict[str, str]:
    """Name of a fact -> what is known. No path, no patient."""
    first = model.members[0]
    config, looks = first.config, first.preparation
    trained = sum(config.get("splits", {}).get("train", {}).values())
    stages = ", ".join(f"{count} {stage}" for stage, count in config.get("splits", {}).get("train", {}).items())
    origin = "simulated: the answers mean nothing for a patient" if model.simulated else "acquired"
    count = len(model.members)
    made = "one stager" if count == 1 else f"the mean of {count} stagers of a cross-validation"
    rows, columns = looks.field_of_view or (0.0, 0.0)
    return {
        "Model": f"{model.name}: {made}, {first.stager.settings.backbone}",
        "Meant for": f"research and education; {_told_apart(model.stages)}",
        "Sequences": ", ".join(model.sequences),
        "Learnt from": f"cohort {Path(str(config.get('cohort', 'unknown'))).name}, {trained} patients"
        + (" each" if count > 1 else "")
        + (f" ({stages})" if stages else "")
        + f"; images {origin}",
        "Looks at": f"{looks.view}, {rows:g} x {columns:g} mm at {looks.spacing:g} mm",
        "Calibrated": model.calibration.how if model.calibration else "no: take percentages as a ranking only",
        "Fingerprint": model.fingerprint[:16],
        "Versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
