"""The card of a model: what it is, what it learned from, and who gives which sign. No path, no patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.model.provenance import versions
from cirrnb.model.signs import SHORT
from cirrnb.model.trained_model import TrainedModel


def _stage_description(stages: StageScale) -> str:
    if stages == CIRRHOSIS:
        return "mild, moderate or severe as a radiologist's overall impression, neither histology nor Child-Pugh"
    return "; ".join(name if words == name else f"{name}: {words}" for name, words in stages.description.items())


def _learnt_from(config: Mapping[str, Any], trained: int, count: int) -> str:
    """The cohort and how many patients of it; of endless patients, how many bodies."""
    name = Path(str(config.get("cohort", "unknown"))).name
    bodies = config.get("training", {}).get("patients") if isinstance(config.get("training"), Mapping) else None
    if not trained and isinstance(bodies, int):
        known = config["training"].get("known")  # name of a cohort, patients, and their hash
        more = f", and {known[1]} simulated patients of a cohort" if isinstance(known, list) and len(known) > 1 else ""
        return f"{name}, {bodies} bodies{more}"
    return f"cohort {name}, {trained} patients" + (" each" if count > 1 else "")


def _who_reads(model: TrainedModel) -> str:
    """Who gives which sign."""

    def words(names: Sequence[str]) -> str:
        return "; ".join(SHORT.get(name, name) for name in names)

    if model.sign_reader is None:
        return words(model.signs)
    measured = tuple(model.measured_signs.signs) if model.measured_signs else ()
    read = [name for name in model.signs if name not in (*measured, *model.own_signs)]
    parts = [f"Read by a second network ({_learnt_from(model.sign_reader.config, 0, 1)}): {words(read)}"]
    parts += [f"Measured by the texture of the liver: {words(measured)}"] if measured else []
    parts += [f"By the stager: {words(model.own_signs)}"] if model.own_signs else []
    return ". ".join(parts)


def card(model: TrainedModel) -> dict[str, str]:
    """Name of a fact -> what is known. No path, no patient."""
    first = model.members[0]
    config, looks = first.config, first.preparation
    trained = sum(config.get("splits", {}).get("train", {}).values())
    stages = ", ".join(f"{count} {stage}" for stage, count in config.get("splits", {}).get("train", {}).items())
    origin = "simulated: the answers mean nothing for a patient" if model.simulated else "acquired"
    count = len(model.members)
    made = "one stager" if count == 1 else f"the mean of {count} stagers of a cross-validation"
    return {
        "Model": f"{model.name}: {made}, {first.stager.settings.backbone}",
        "Meant for": f"research and education; {_stage_description(model.stages)}",
        "Sequences": ", ".join(model.sequences),
        "Learnt from": f"{_learnt_from(config, trained, count)}{f' ({stages})' if stages else ''}; images {origin}",
        "Looks at": looks.described,
        "Calibrated": model.calibration.how if model.calibration else "no: take percentages as a ranking only",
        **({"Signs": _who_reads(model)} if model.signs else {}),
        **({"Adapted": model.adaptation.sentence} if model.adaptation else {}),
        "Fingerprint": model.fingerprint[:16],
        "Versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
