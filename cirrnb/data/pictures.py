"""Slices, outlines and maps as PNG pictures inside a page (data URIs)."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage


def grey_picture(pixels: ArrayLike, window: tuple[float, float] = (0.0, 1.0)) -> str:
    """A slice (rows, columns) as a PNG data URI; the window's ends become black and white.

    Raises ValueError where the slice is not two-dimensional or the window is empty.
    """
    low, high = window
    values = np.asarray(pixels, dtype=np.float32)
    if values.ndim != 2 or not low < high:
        raise ValueError(f"a slice is (rows, columns) and a window rises, not {values.shape} and {window}")
    grey = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1)
    return _data_uri(Image.fromarray(np.round(grey * 255).astype(np.uint8), mode="L"))


def outline_picture(mask: ArrayLike, colour: str, magnify: int = 4) -> str:
    """The edge of a mask (rows, columns) as a transparent PNG data URI, `magnify` times finer than the mask.

    The edge is drawn just inside the mask, one and a half of its pixels wide: thinner lines vanish in small pictures.
    """
    inside: NDArray[np.bool_] = np.kron(np.asarray(mask, dtype=bool), np.ones((magnify, magnify), dtype=bool))
    # Rounds off the stairs that magnifying leaves, no further than half a pixel of the mask.
    smooth = ndimage.gaussian_filter(inside.astype(np.float32), magnify / 2) > 0.5
    edge = smooth & ~ndimage.binary_erosion(smooth, iterations=3 * magnify // 2)
    # Two colours need no more than a palette: a tenth of the size of four full channels.
    picture = Image.fromarray(edge.astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, *(int(colour[start : start + 2], 16) for start in (1, 3, 5))])
    picture.info["transparency"] = 0
    return _data_uri(picture)


FOR, AGAINST = "#E66100", "#5D3A9B"
"""Colours of evidence for and against the score: distinguishable with any colour vision, and from grey."""


def overlay_picture(values: ArrayLike, limit: float, magnify: int = 3) -> str:
    """A map (rows, columns) as a transparent PNG data URI to lie on a slice: orange above zero, violet below.

    The colour is as strong as the value is large, up to `limit`; what is below a tenth of it is left out, so that the
    slice under it can be read. Raises ValueError where the map is not two-dimensional or the limit not above zero.
    """
    pixels = np.asarray(values, dtype=np.float32)
    if pixels.ndim != 2 or not limit > 0:
        raise ValueError(f"a map is (rows, columns) and its limit above zero, not {pixels.shape} and {limit}")
    share = np.clip(
        ndimage.zoom(np.nan_to_num(pixels), magnify, order=1, mode="nearest", grid_mode=True) / limit, -1, 1
    )
    strength = np.where(np.abs(share) < 0.1, 0, np.abs(share))
    colours = [[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in (FOR, AGAINST)]
    picture = np.empty((*share.shape, 4), dtype=np.uint8)
    picture[..., :3] = np.where(share[..., None] >= 0, colours[0], colours[1])
    picture[..., 3] = np.round(200 * strength**0.8)
    return _data_uri(Image.fromarray(picture, mode="RGBA"))


def _data_uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    # Four channels take ten times as long to squeeze as to store well.
    image.save(stream, format="PNG", optimize=image.mode != "RGBA", compress_level=6)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
