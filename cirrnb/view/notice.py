"""What a notebook shows first where its cohort is simulated; a page made from the notebook puts it on top."""

from __future__ import annotations

from typing import Any

NOTICE = "application/vnd.cirrnb.notice+json"
SIMULATED = "Simulated cohort: nothing here means anything for a patient."


class Notice:
    """Says in a notebook, and to the page made from it, whether the cohort is simulated.

    `Notice(cohort.simulated)` as the last line of a cell.
    """

    def __init__(self, simulated: bool):
        self.simulated = bool(simulated)

    def __str__(self) -> str:
        return SIMULATED if self.simulated else "Research and education only. Not a medical device, no diagnosis."

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": str(self), "text/markdown": f"**{self}**", NOTICE: {"simulated": self.simulated}}
