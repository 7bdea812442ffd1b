"""A sheet of simulated and real slices as a PNG picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from cirrnb.data.atomic_files import atomic_file
from cirrnb.simulation.gallery import Panel

TITLE, EDGE = 18, 4


def draw_gallery(rows: Sequence[Sequence[Panel]], out: Path | str, width: int = 300, outline: bool = False) -> Path:
    """Write a PNG with one row of panels under another.

    Parameters
    ----------
    rows : panels, of any number a row.
    width : pixels of one panel's width.
    outline : draw the liver mask's edge.
    """
    tiles = [[_tile(panel, width, outline) for panel in row] for row in rows]
    heights = [max(tile.height for tile in row) + EDGE for row in tiles]
    sheet = Image.new("RGB", (max(len(row) for row in tiles) * (width + EDGE), sum(heights)), "black")
    top = 0
    for row, height in zip(tiles, heights, strict=True):
        for place, tile in enumerate(row):
            sheet.paste(tile, (place * (width + EDGE), top))
        top += height
    path = Path(out)
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG")
    return path


def _tile(panel: Panel, width: int, outline: bool) -> Image.Image:
    height = round(width * panel.image.shape[0] / panel.image.shape[1] * panel.aspect)
    picture = Image.fromarray(panel.image).resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
    if outline and panel.mask is not None:
        big = Image.fromarray(panel.mask).convert("L").resize((width, height))
        edge = Image.fromarray(_edge(big))
        picture.paste((255, 176, 0), mask=edge)
    tile = Image.new("RGB", (width, height + TITLE), "black")
    tile.paste(picture, (0, TITLE))
    draw = ImageDraw.Draw(tile)
    draw.text((3, 3), panel.title, fill="white", font=ImageFont.load_default(11))
    draw.text((3, TITLE + height // 2), "R", fill="white")
    draw.text((width - 10, TITLE + height // 2), "L", fill="white")
    return tile


def _edge(mask: Image.Image) -> NDArray[np.uint8]:
    inside = np.asarray(mask) > 127
    return ((inside & ~binary_erosion(inside)) * 255).astype(np.uint8)
