"""What a notebook shows first where its cohort is simulated; a page made from the notebook puts it on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTICE = "application/vnd.cirrnb.notice+json"
SUMMARY = "application/vnd.cirrnb.summary+json"
SIMULATED = "Simulated cohort: nothing here means anything for a patient."
LEARNT = "The model learnt from simulated patients: nothing it says means anything for a patient."
"""Where the scans may be real: calling them simulated would be as wrong as saying nothing."""

RESEARCH_ONLY = "Research and education only. Not a medical device, no diagnosis."


def banner(simulated: bool, learnt: bool = False) -> str:
    """What stands on top of a page about simulated scans, or about real ones and a model that learnt from simulated
    ones; nothing where both are real."""
    return SIMULATED if simulated else LEARNT if learnt else ""


class Notice:
    """Says in a notebook, and to the page made from it, whether the cohort is simulated, or what the model learnt from.

    `Notice(cohort.simulated, model.simulated)` as the last line of a cell.
    """

    def __init__(self, simulated: bool, learnt: bool = False):
        self.banner = banner(simulated, learnt)

    def __str__(self) -> str:
        return self.banner or RESEARCH_ONLY

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": str(self), "text/markdown": f"**{self}**", NOTICE: {"banner": self.banner}}


class Summary:
    """What a notebook tells of itself to whoever runs many of it; nothing of it is shown on a page.

    `Summary(told)` as the last line of a cell; `told` is ready for JSON.
    """

    def __init__(self, told: Mapping[str, Any]):
        self.told = dict(told)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": f"{len(self.told)} figures for the summary", SUMMARY: self.told}
