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

from cirrnb.data.prepared import Bag
from cirrnb.data.writing import write_whole
from cirrnb.explanation.explanation import Explanation
from cirrnb.simulation.signs import SIGNS
from cirrnb.view.explorer.canvas import asset
from cirrnb.view.explorer.pictures import overlay_values, overlay_words, panes

IMAGE_QUALITY = 80
"""WebP quality of slices: what is lost is below the noise, and a page stays below 2 MB."""

MAP_QUALITY = 90

FIGURE_OPENS = '<figure class="slice-browser"'
"""How the HTML begins, by which a page made from a notebook knows it."""


@dataclass(frozen=True)
class SliceBrowser:
    """A figure for a notebook or a page; `html` is all of it, `save` writes it as a page of its own."""

    html: str
    title: str

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: Path | str) -> Path:
        """Write the figure as a page, beside first and then renamed."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
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
    simulated: bool,
    evidence: Mapping[str, NDArray[np.uint8]] | None = None,
) -> SliceBrowser:
    """Both sequences of a patient to scroll through, with a map on them where an explanation is given.

    Pictures are compressed with loss (WebP), which readings at a click tell to about a hundredth.

    Parameters
    ----------
    simulated : whether the patient is; it is written on the pictures.
    evidence : sequence -> (slices, rows, columns) labels of planted signs, as `SimulatedTruth.evidence`.
    """
    title = f"Patient {bag.subject}"
    told = []
    for pane in panes(bag, evidence):
        one = dict(pane.told)
        if pane.image is not None:
            one["packed"] = {"image": _packed(pane.image, IMAGE_QUALITY)}
            for name, labels in (("mask", pane.mask), ("evidence", pane.evidence)):
                if labels is not None:
                    one["packed"][name] = _packed(labels, None)
        told.append(one)
    case = {"title": title, "simulated": simulated, "shift": bag.shift, "signs": list(SIGNS) if evidence else []}
    content: dict[str, Any] = {"case": {**case, "panes": told}, "overlay": None}
    if explanation is not None:
        maps = {name: _packed(values, MAP_QUALITY) for name, values in overlay_values(explanation).items()}
        content["overlay"] = {**overlay_words(explanation), "packed": maps}
    return SliceBrowser(_figure(content, title), title)


def _figure(content: Mapping[str, Any], title: str) -> str:
    name = f"cn-{uuid.uuid4().hex[:12]}"
    # JSON inside a script: no text of a patient may end it.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
    return (
        f'{FIGURE_OPENS} style="margin:0" aria-label="{escape(title)}">'
        f"<style>{asset('viewer.css')}</style>"
        f'<div id="{name}"></div><noscript>Scrolling needs JavaScript.</noscript>'
        f'<script type="application/json" id="{name}-data">{data}</script>'
        f"<script>(() => {{\n{asset('viewer.js')}\n{asset('unpack.js')}\n"
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
        image.save(stream, format="WEBP", quality=quality, method=6)
    kind = "png" if quality is None else "webp"
    return {"across": across, "picture": f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"}
