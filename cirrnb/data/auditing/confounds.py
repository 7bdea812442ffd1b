"""Confounds: acquisition traits associated with stage or source, which would predict both without the liver.

A model that is trained where healthy subjects are uint16 and patients int16, or where severe patients lay in another
scanner, can learn the file instead of the disease.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cirrnb.data.numbers import figure
from cirrnb.data.sequences import T1W_T2W

if TYPE_CHECKING:
    import pandas as pd

CATEGORIES = {"dtype": "the type of the numbers", "matrix": "the matrix", "orientation": "the orientation"}
NUMBERS = {
    "in_plane": "the spacing in plane (mm)",
    "through_plane": "the spacing between slices (mm)",
    "slices": "the number of slices",
    "minimum": "the smallest value",
    "maximum": "the largest value",
    "top": "the 99th percentile",
}
LEAST_SCANS = 5
"""Smallest group that is compared."""

STRONG_V, STRONG_AUC, LEVEL = 0.3, 0.7, 0.01
"""What counts as a confound: Cramér's V (bias-corrected) or AUC of this size, and p below the level after Holm's
correction over everything that was compared. Weaker ties exist in any real cohort and are listed, not flagged."""

COLUMNS = ("sequence", "target", "trait", "measure", "strength", "p", "confound", "words")


def confounds(scans: pd.DataFrame, further: tuple[str, ...] = (), sequences: Sequence[str] = T1W_T2W) -> pd.DataFrame:
    """Every acquisition trait of an audit's scans against source and stage, one sequence at a time.

    `further` names columns with few different values that are traits too (scanner, site). Columns of the table:
    sequence, target ("source" or "stage"), trait, measure ("Cramér's V" or "AUC"), strength, p (after Holm), confound
    (True if flagged), words (a sentence for a reader). Strongest first.

    Sources: Bergsma, Journal of the Korean Statistical Society 42 (2013) 323, for the correction of Cramér's V; the AUC
    is Mann and Whitney's, of the class that separates best from the rest.
    """
    import pandas as pd

    rows = []
    for sequence in sequences:
        readable = scans[(scans.sequence == sequence) & scans.problem.isna()]
        for target in ("source", "stage"):
            known = readable[readable[target].notna()]
            sizes = known[target].value_counts()
            known = known[known[target].isin(sizes.index[sizes >= LEAST_SCANS])]
            if known[target].nunique() > 1:
                rows += [{"sequence": sequence, "target": target, **row} for row in _compared(known, target, further)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["p"] = _holm(table["p"].to_numpy(dtype=float))
    strong = np.where(table.measure == "AUC", table.strength >= STRONG_AUC, table.strength >= STRONG_V)
    table["confound"] = strong & (table["p"] < LEVEL)
    order = table.assign(size=np.where(table.measure == "AUC", 2 * table.strength - 1, table.strength))
    return table.loc[order.sort_values(["confound", "size"], ascending=False).index].reset_index(drop=True)


def _compared(scans: pd.DataFrame, target: str, further: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    classes = scans[target].to_numpy(dtype=str)
    for trait, name in (*CATEGORIES.items(), *((name, name) for name in further)):
        known = scans[trait].notna().to_numpy()
        values = scans[trait][known].astype(str).to_numpy(dtype=str)
        if 1 < len(np.unique(values)) <= max(20, len(values) // 4):
            yield {"trait": name} | _cramer(values, classes[known], target)
    for trait, name in NUMBERS.items():
        numbers = scans[trait].to_numpy(dtype=float).round(2)
        if len(np.unique(numbers)) > 1:
            yield {"trait": name} | _auc(numbers, classes, target)


def _cramer(values: np.ndarray, classes: np.ndarray, target: str) -> dict[str, Any]:
    from scipy.stats import chi2_contingency

    kinds, counts = np.unique(values, return_counts=True)
    values = np.where(np.isin(values, kinds[counts >= LEAST_SCANS]), values, "(rare)")
    kinds, groups = np.unique(values), np.unique(classes)
    table = np.array([[np.sum((values == kind) & (classes == group)) for group in groups] for kind in kinds])
    if len(kinds) < 2 or len(groups) < 2:
        return {"measure": "Cramér's V", "strength": 0.0, "p": 1.0, "words": "(almost) the same everywhere"}
    chi2, p, _, expected = chi2_contingency(table, correction=False)
    total, (rows, columns) = table.sum(), table.shape
    phi2 = max(0.0, chi2 / total - (rows - 1) * (columns - 1) / (total - 1))
    least = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)) - 1
    most = np.unravel_index(np.argmax((table - expected) / np.sqrt(expected)), table.shape)
    kind, group = kinds[most[0]], groups[most[1]]
    words = _rule(str(kind), values == kind, classes == group, group, target)
    return {"measure": "Cramér's V", "strength": float(np.sqrt(phi2 / least)), "p": float(p), "words": words}


def _auc(numbers: np.ndarray, classes: np.ndarray, target: str) -> dict[str, Any]:
    from scipy.stats import mannwhitneyu

    groups = np.unique(classes)
    best: dict[str, Any] = {"strength": -1.0}
    for group in groups if len(groups) > 2 else groups[:1]:
        members, rest = numbers[classes == group], numbers[classes != group]
        u, p = mannwhitneyu(members, rest)
        auc = float(u / (len(members) * len(rest)))
        if max(auc, 1 - auc) > best["strength"]:
            sign, word = (1, "at least") if auc >= 0.5 else (-1, "at most")
            cut = sign * _cut(np.sort(sign * members), np.sort(sign * rest))
            words = _rule(f"{word} {figure(cut)}", sign * numbers >= sign * cut, classes == group, group, target)
            corrected = min(1.0, p * (len(groups) if len(groups) > 2 else 1))  # each class had its chance
            best = {"measure": "AUC", "strength": max(auc, 1 - auc), "p": float(corrected), "words": words}
    return best


def _cut(members: np.ndarray, rest: np.ndarray) -> float:
    """The threshold from which most of `own` and least of `rest` lie (Youden); both are sorted."""
    cuts = np.unique(np.concatenate([members, rest]))
    missed = np.searchsorted(members, cuts) / len(members) - np.searchsorted(rest, cuts) / len(rest)
    return float(cuts[int(np.argmin(missed))])


def _rule(what: str, chosen: np.ndarray, member: np.ndarray, group: str, target: str) -> str:
    """As in: uint16 in 48 of 55 healthy, in 0 of 310 others."""
    others = "others" if target == "source" else "of other stages"
    rest = f"in {np.sum(chosen & ~member)} of {np.sum(~member)} {others}"
    return f"{what} in {np.sum(chosen & member)} of {np.sum(member)} {group}, {rest}"


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction."""
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
