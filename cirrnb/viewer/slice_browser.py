"""`slice_browser`: the explorer's pictures as one piece of HTML that needs neither a kernel nor the net."""

from __future__ import annotations

import base64
import io
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.bag import Bag
from cirrnb.data.cohort_reading import simulated_scans
from cirrnb.data.errors import InputError
from cirrnb.explanation.explanation import Explanation
from cirrnb.view.page import FIGURE_OPENS, asset
from cirrnb.view.palette import LABELS
from cirrnb.viewer.panes import Pane, overlay_values, overlay_words, panes
from cirrnb.viewer.widget import viewer_script

QUALITIES = ((80, 90), (60, 80), (40, 60), (25, 40))
"""WebP quality of slices and of maps, the best first: a page takes the first at which it is small enough."""

LARGEST = 1_900_000
"""Characters that the pictures of 24 slices of both sequences may take; more slices may take more."""


@dataclass(frozen=True)
class SliceBrowser:
    """A figure for a notebook or a page; `html` is all of it, `save` writes it as a page of its own."""

    html: str
    title: str

    @property
    def stand_in(self) -> str:
        """The same for a notebook that shows the explorer itself: there it hides, in a page made from it it shows."""
        return self.html.replace(FIGURE_OPENS, f"{FIGURE_OPENS} data-stands-in", 1)

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: Path | str) -> Path:
        """Write the figure as a page, beside first and then renamed."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(
            path,
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title></head>'
            f'<body style="margin:16px"><main><h1 style="font:600 18px system-ui,sans-serif">{escape(self.title)}</h1>'
            f"{self.html}</main></body></html>\n",
        )
        return path


def slice_browser(
    bag: Bag,
    explanation: Explanation | None = None,
    *,
    simulated: bool | None = None,
    evidence: Mapping[str, NDArray[np.uint8]] | None = None,
) -> SliceBrowser:
    """Show all slices of a patient, all sequences side by side, with a map on them if an explanation is given.

    Pictures are compressed (WebP, lossy): intensities read at a click are exact to a few hundredths. 24 slices of both
    sequences take at most 2 MB.

    Parameters
    ----------
    bag : the prepared scans of one patient.
    explanation : its map is drawn on the slices.
    simulated : whether the patient is simulated, which is written on the pictures; None decides by the folder of the
        scans.
    evidence : sequence -> (slices, rows, columns) labels of simulated signs, as `SimulatedTruth.evidence`.

    Returns
    -------
    A `SliceBrowser`, shown by a notebook as the last line of a cell. `save(path)` writes one HTML file.

    Raises
    ------
    InputError
        If `bag` is not the bag of one patient.

    Examples
    --------
    >>> prepared = cirrnb.prepare("cohorts/mine", progress=False)
    >>> page = cirrnb.slice_browser(prepared.bags()[0]).save("case.html")  # one file, no kernel, no network
    """
    if not isinstance(bag, Bag):
        remedy = "Hand in one of prepared.bags(); for all patients there is cirrnb.SliceExplorer(prepared)."
        raise InputError("bag", f"a {type(bag).__name__}", "the bag of one patient", remedy)
    if simulated is None:
        simulated = bool(simulated_scans(scan.scan for scan in bag.scans.values()))
    title = f"Patient {bag.subject}"
    return SliceBrowser(
        browser_html(slice_content(bag, explanation, simulated=simulated, evidence=evidence), title), title
    )


def slice_content(
    bag: Bag,
    explanation: Explanation | None = None,
    *,
    simulated: bool,
    evidence: Mapping[str, NDArray[np.uint8]] | None = None,
) -> dict[str, Any]:
    """What a slice browser shows as plain values, ready for JSON: pictures, their scales, and words. Parameters as
    there."""
    case = {
        "title": f"Patient {bag.subject}",
        "simulated": simulated,
        "signs": list(LABELS.values()) if evidence else [],
    }
    shown = panes(bag, evidence)
    maps = overlay_values(explanation) if explanation else {}
    largest = LARGEST * max(1.0, sum(pane.details.get("slices", 0) for pane in shown) / 48)
    for quality in QUALITIES:
        packed_panes = [_packed_pane(pane, quality[0]) for pane in shown]
        overlay = {name: _packed(values, quality[1]) for name, values in maps.items()}
        if sum(len(pane["picture"]) for pane in _pictures(packed_panes, overlay)) <= largest:
            break
    words = overlay_words(explanation) if explanation else {}
    return {"case": {**case, "panes": packed_panes}, "overlay": {**words, "packed": overlay} if explanation else None}


def _packed_pane(pane: Pane, quality: int) -> dict[str, Any]:
    packed = {name: _packed(values, quality if name == "image" else None) for name, values in pane.layers.items()}
    return {**pane.details, "packed": packed}


def _pictures(packed_panes: list[dict[str, Any]], overlay: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*overlay.values(), *(picture for pane in packed_panes for picture in pane["packed"].values())]


def browser_html(content: Mapping[str, Any], title: str) -> str:
    """The figure of a slice browser from its content, complete in itself."""
    name = f"cn-{uuid.uuid4().hex[:12]}"
    # JSON inside a script: no text of a patient may end it.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
    return (
        f'{FIGURE_OPENS} style="margin:0" aria-label="{escape(title)}">'
        f"<style>{asset('cirrnb.viewer', 'viewer.css')}</style>"
        f'<div id="{name}"></div><noscript>Scrolling needs JavaScript.</noscript>'
        f'<script type="application/json" id="{name}-data">{data}</script>'
        f"<script>(() => {{\n{viewer_script()}\n{asset('cirrnb.viewer', 'unpack.js')}\n"
        f"unpack({json.dumps(name)});\n}})();</script></figure>"
    )


def _packed(volume: NDArray[np.uint8], quality: int | None) -> dict[str, Any]:
    """Slices (slices, rows, columns) as tiles of one picture: WebP with loss, or PNG where labels must stay."""
    count, rows, columns = volume.shape
    across = max(1, math.isqrt(count * rows // columns))
    down = -(-count // across)
    sheet = np.zeros((down * across, rows, columns), np.uint8)
    sheet[:count] = volume
    picture = sheet.reshape(down, across, rows, columns).swapaxes(1, 2).reshape(down * rows, across * columns)
    stream = io.BytesIO()
    image = Image.fromarray(picture, mode="L")
    if quality is None:
        image.save(stream, format="PNG", optimize=True)
    else:
        image.save(stream, format="WEBP", quality=quality, method=4)
    kind = "png" if quality is None else "webp"
    return {"across": across, "picture": f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"}
