"""The pieces of a patient's report, in the words of a clinician; everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd

from cirrnb.data.prepared import Bag, PreparedScan
from cirrnb.explanation.explanation import Explanation
from cirrnb.measure.measurement import Measurement
from cirrnb.model.prediction import Prediction
from cirrnb.model.trained import TrainedModel
from cirrnb.view.attribution import colours, slices_that_count
from cirrnb.view.explorer.pictures import white
from cirrnb.view.explorer.words import answer_html, reasons_html, worth_html
from cirrnb.view.notice import RESEARCH_ONLY, banner
from cirrnb.view.piece import Piece
from cirrnb.view.sheet import sheet
from cirrnb.view.slices import Slice


def head(bag: Bag, *, simulated: bool, learnt: bool = False) -> Piece:
    """Who it is, what there is of them, and what is simulated: the patient, or what the model learnt from.

    The recorded stage comes with the answer: images are looked at first.
    """
    people = [f"{bag.age:.0f} years" if bag.age is not None else "age unknown", bag.sex or "sex unknown"]
    scans = [_scan_words(name, bag.scans.get(name)) for name in bag.sequences]
    warning = f" {told}" if (told := banner(simulated, learnt)) else ""
    return Piece(
        f"<p class='who'>Patient <b><bdi>{escape(bag.subject)}</bdi></b>, {escape(', '.join(people))}</p>"
        f"<p>{'; '.join(scans)}.</p><p class='small'>{RESEARCH_ONLY}{warning}</p>",
        "head",
    )


def _scan_words(name: str, prepared: PreparedScan | None) -> str:
    if prepared is None:
        return f"<b>{name} missing</b>"
    slices, spacing = prepared.source_grid.shape, prepared.source_grid.spacing
    kept = prepared.grid.shape[0]
    outline = "liver outlined" if prepared.mask is not None else "no outline of the liver"
    return f"{name}: {kept} slices used, {max(spacing):.1f} mm apart, file of {' x '.join(map(str, slices))}, {outline}"


def key_slices(bag: Bag, *, simulated: bool, count: int = 3) -> Piece:
    """Slices at even heights through the liver (through the scan where it is not outlined), as acquired, from the head
    down, a row a sequence."""
    rows: dict[str, list[Slice | None]] = {}
    for name, prepared in bag.scans.items():
        window = _windows(bag)[name]
        rows[name] = [_at(prepared, index, window) for index in _heights(prepared, count)]
    return sheet(rows, simulated=simulated)


def slices_that_mattered(bag: Bag, explanation: Explanation, *, simulated: bool, count: int = 3) -> Piece:
    """Those with the largest shares, without and with the map."""
    rows = slices_that_count(bag, explanation, count=count, windows=_windows(bag))
    return sheet(rows, simulated=simulated, words=f"{explanation.label}: {colours(explanation)}")


def _windows(bag: Bag) -> dict[str, tuple[float, float]]:
    """The explorer's first window: the liver is what is read."""
    found = {}
    for name, prepared in bag.scans.items():
        mask = None if prepared.mask is None else np.asarray(prepared.mask, dtype=np.uint8)
        found[name] = (0.0, white(np.nan_to_num(np.asarray(prepared.image, dtype=np.float32)), mask))
    return found


def _heights(prepared: PreparedScan, count: int) -> list[int]:
    slices = prepared.grid.shape[0]
    held = np.arange(slices)
    if prepared.mask is not None:
        held = np.flatnonzero(np.asarray(prepared.mask).any(axis=(1, 2)))
    shares = (np.arange(count) + 1) / (count + 1)
    chosen = {int(held[round(share * (len(held) - 1))]) for share in shares}
    return sorted(chosen, reverse=True)


def _at(prepared: PreparedScan, index: int, window: tuple[float, float]) -> Slice:
    image = np.asarray(prepared.image[index], dtype=np.float32)
    spacing, height = prepared.grid.spacing[1:], float(prepared.positions[index])
    return Slice(np.nan_to_num(image), spacing, height, window=window)


def answer(said: Prediction, bag: Bag, model: TrainedModel, *, simulated: bool) -> Piece:
    """The stage with its probabilities, the stages that are possible, and what was missing or unusual."""
    return Piece(answer_html(said, bag, model, simulated=simulated), "answer")


def reasons(explanation: Explanation, said: Prediction) -> Piece:
    """What drove the answer, in sentences, without what the answer has told."""
    return Piece(reasons_html(explanation, said), "reasons")


def worth(table: pd.DataFrame) -> Piece:
    """Whether this very map can be believed: what `faithfulness` found, in sentences."""
    verdicts = {
        "both": "<b>This map passes both tests</b>: the answer hangs more on the places it names than on any that its "
        "opponents name.",
        "deletion": "<b>This map passes one of two tests</b>, deletion: read it with care.",
        "insertion": "<b>This map passes one of two tests</b>, insertion: read it with care.",
        "neither": "<b>This map fails both tests: do not read anything into it.</b> Maps that know nothing of the "
        "model name places on which the answer hangs as much.",
        "undefined": "<b>This map could not be tested</b>: the score hardly differs from that of slices without "
        "detail.",
    }
    told = verdicts[beaten(table)]
    return Piece(f"<p>{told}</p>{worth_html(table)}", "worth")


def beaten(table: pd.DataFrame) -> str:
    """In which of deletion and insertion a map is better than all its opponents: both, deletion, insertion, neither, or
    undefined."""
    passed = []
    for row in table[table["measure"].isin(("deletion", "insertion"))].to_dict("records"):
        if pd.isna(row["value"]):
            return "undefined"
        sign = 1.0 if row["better"] == "higher" else -1.0
        rivals = [sign * row[name] for name in ("random", "shifted", "edges") if pd.notna(row.get(name))]
        if rivals and sign * row["value"] > max(rivals):
            passed.append(str(row["measure"]))
    return "both" if len(passed) == 2 else passed[0] if passed else "neither"


def biomarkers(found: Mapping[str, Sequence[Measurement]]) -> Piece:
    """What was measured on each scan, with its unit, or why it could not be."""
    rows = [
        f"<tr><th>{escape(one.name)}</th><td>{escape(name)}</td><td>{_value(one)}</td></tr>"
        for name, many in found.items()
        for one in many
    ]
    if not rows:
        return Piece("<p class='small'>No biomarkers were measured.</p>", "biomarkers")
    return Piece(
        f"<table><thead><tr><th>Biomarker</th><th>Scan</th><th>Value</th></tr></thead>{''.join(rows)}</table>",
        "biomarkers",
    )


def _value(one: Measurement) -> str:
    if one.value is None or pd.isna(one.value):
        return f"not measured: {escape(one.reason)}"
    remark = f" <span class='small'>{escape(one.note)}</span>" if one.note else ""
    return f"{escape(one.amount)}{remark}"


def facts(rows: Mapping[str, str], kind: str = "facts") -> Piece:
    """A table of names and what is known of them."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(told)}</td></tr>" for name, told in rows.items())
    return Piece(f"<table>{body}</table>", kind)
