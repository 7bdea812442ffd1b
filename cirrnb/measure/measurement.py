"""A number with its unit, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One thing measured of one scan.

    Attributes
    ----------
    name : the field's term, in words.
    value : in `unit`; None where it could not be measured.
    unit : "mL", "mm", ...; empty for a ratio or a score without a unit.
    note : where there is no value the reason, otherwise what a reader has to know about it, or nothing.
    source : of the definition.
    """

    name: str
    value: float | None
    unit: str = ""
    note: str = ""
    source: str = ""

    @property
    def reason(self) -> str:
        """Why there is no value, or nothing."""
        return self.note if self.value is None else ""

    @property
    def amount(self) -> str:
        """Value and unit as a person would write them."""
        return "not measured" if self.value is None else f"{_rounded(self.value)} {self.unit}".strip()

    def __str__(self) -> str:
        return f"{self.name}: {self.amount}" + (f" ({self.note})" if self.note else "")


def _rounded(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
