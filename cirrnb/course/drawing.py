"""Draws the pictures of the lesson anew, after a change of the simulator: `python -m cirrnb.course.drawing`."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_closing

from cirrnb.course.lesson import DESCRIBED
from cirrnb.data.atomic_files import atomic_file, atomic_write
from cirrnb.data.pictures import outline_picture
from cirrnb.data.sequences import T1W_T2W
from cirrnb.explanation.sign_pair import SignPair, anatomy, sign_pair, vessels_on_t2w
from cirrnb.simulation.cohort import SIMULATOR_VERSION
from cirrnb.simulation.signs import SIGNS
from cirrnb.view.palette import SIGN_COLOURS

CLOSED = 3.0
"""mm over which gaps in an outlined region are closed: single pixels have no outline worth drawing."""

QUALITY = 82
"""Of the WebP pictures: noise is what most of the bytes go into."""


def draw(folder: Path) -> None:
    """Write all pictures of the lesson into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for sign in SIGNS:
        for sequence in T1W_T2W:
            _write_pair(folder, f"{sign}-{sequence}", sign_pair(sign, sequence))
    # At another height than the slices of flow, which stand above the exercise and name their sequence.
    _write(folder / "riddle.webp", sign_pair("fossa", "T2W", strength=0.0).shown)
    places = {}
    for sequence in T1W_T2W:
        view = anatomy(sequence)
        _write(folder / f"anatomy-{sequence}.webp", view.image)
        rows, columns = view.image.shape
        shares = {name: ((row + 0.5) / rows, (column + 0.5) / columns) for name, (row, column) in view.places.items()}
        places[sequence] = {name: [round(down, 4), round(across, 4)] for name, (down, across) in shares.items()}
    for name, pixels in vessels_on_t2w().items():
        _write(folder / f"vessels-{name}.webp", pixels)
    description = {"version": SIMULATOR_VERSION, "places": places}
    atomic_write(folder / DESCRIBED, json.dumps(description, indent=1) + "\n")


def edge_of(pair: SignPair) -> str:
    """The outline of what a sign changed, as a PNG data URI."""
    reach = np.ones([2 * round(CLOSED / 2 / step) + 1 for step in pair.spacing], bool)
    region = binary_closing(np.pad(pair.changed, 8), reach)[8:-8, 8:-8]
    return outline_picture(region, SIGN_COLOURS[SIGNS.index(pair.sign)])


def _write_pair(folder: Path, name: str, pair: SignPair) -> None:
    _write(folder / f"{name}-with.webp", pair.shown)
    _write(folder / f"{name}-without.webp", pair.without)
    with atomic_file(folder / f"{name}-edge.png") as partial:
        partial.write_bytes(base64.b64decode(edge_of(pair).split(",", 1)[1]))


def _write(path: Path, pixels: NDArray[np.float32]) -> None:
    image = Image.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8), mode="L")
    with atomic_file(path) as partial:
        image.save(partial, format="WEBP", quality=QUALITY, method=6)


if __name__ == "__main__":
    draw(Path(__file__).with_name("pictures"))
