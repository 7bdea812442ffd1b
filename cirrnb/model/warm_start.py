"""Beginning a training with the weights of another stager."""

from __future__ import annotations

from cirrnb.data.errors import InputError
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import SHIPPED, load_model

SIMULATED = "simulated"
"""Setting `pretrained` of those who begin with the stager of the package, which learned from simulated patients."""


def begin_with(stager: Stager, other: Stager, name: str) -> list[str]:
    """Copy the weights of equal name and shape from another stager; returns their names.

    Raises InputError if their backbones differ; `name` is the other stager's.
    """
    weights, given = stager.state_dict(), other.state_dict()
    common = {key: value for key, value in given.items() if key in weights and weights[key].shape == value.shape}
    if not all(key in common for key in weights if ".backbone." in key):
        remedy = f"Choose the backbone {other.settings.backbone}, or other first weights."
        raise InputError(name, f"a stager with {other.settings.backbone}", stager.settings.backbone, remedy)
    stager.load_state_dict({**weights, **common})
    stager.backbone_weights = f"those of {name}"
    return sorted(common)


def begin_as_asked(stager: Stager) -> None:
    """Where the settings ask for it, begin with the package's stager. Raises InputError as `begin_with`."""
    if stager.settings.pretrained == SIMULATED:
        shipped = load_model(SHIPPED)
        begin_with(stager, shipped.members[0].stager, f"{SHIPPED} ({shipped.fingerprint[:16]})")
