"""Stages of liver cirrhosis from T1W and T2W MRI, and why.

The names below are all a notebook needs. Each is loaded when first used, so that `import cirrnb` is quick; so are the
packages and their modules (`cirrnb.simulation.ceiling`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cirrnb.modules import module_of

__version__ = "0.2.0"

if TYPE_CHECKING:
    from cirrnb.data import splits
    from cirrnb.data.cohort_reading import read_cohort
    from cirrnb.evaluation.evaluation import evaluate
    from cirrnb.explanation.explain import explain
    from cirrnb.explanation.faithfulness import faithfulness
    from cirrnb.explanation.model import Model
    from cirrnb.explorer.explorer import SliceExplorer
    from cirrnb.model.adapt import adapt
    from cirrnb.model.cross_validation import cross_validate
    from cirrnb.model.prediction import predict
    from cirrnb.model.training import train
    from cirrnb.preparation.cohort import prepare
    from cirrnb.simulation.cohort import simulate_cohort
    from cirrnb.viewer.slice_browser import slice_browser

_WHERE = {
    "splits": "cirrnb.data",
    "read_cohort": "cirrnb.data.cohort_reading",
    "simulate_cohort": "cirrnb.simulation.cohort",
    "prepare": "cirrnb.preparation.cohort",
    "train": "cirrnb.model.training",
    "adapt": "cirrnb.model.adapt",
    "cross_validate": "cirrnb.model.cross_validation",
    "predict": "cirrnb.model.prediction",
    "evaluate": "cirrnb.evaluation.evaluation",
    "explain": "cirrnb.explanation.explain",
    "faithfulness": "cirrnb.explanation.faithfulness",
    "slice_browser": "cirrnb.viewer.slice_browser",
    "SliceExplorer": "cirrnb.explorer.explorer",
    "Model": "cirrnb.explanation.model",
}

__all__ = [
    "Model",
    "SliceExplorer",
    "__version__",
    "adapt",
    "cross_validate",
    "evaluate",
    "explain",
    "faithfulness",
    "predict",
    "prepare",
    "read_cohort",
    "simulate_cohort",
    "slice_browser",
    "splits",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    return module_of(__name__)(name)


def __dir__() -> list[str]:
    return sorted(__all__)
