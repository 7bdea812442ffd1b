"""Made-up patients for the viewer, and what its page in the browser shows."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from toy_patients import write_scan

from cirrnb.data.bag import Bag
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import Scan
from cirrnb.explanation.explanation import Explanation
from cirrnb.explanation.shapley import ShapleyValues

SETTINGS = PreparationSettings(spacing=2.0, field_of_view=(144.0, 192.0))  # 72 x 96 pixels


def person(folder: Path, slices: dict[str, int], mask: bool = True, shift: float = 0.0) -> Bag:
    """A body with a bright square at rows 20 to 29, columns 10 to 29, which is the liver, on the patient's right."""
    random = np.random.default_rng(0)
    scans = {}
    for name, count in slices.items():
        image = np.zeros((count, *SETTINGS.size), np.float16)
        image[:, 5:-5, 5:-5] = 0.3 + random.normal(0, 0.02, (count, SETTINGS.size[0] - 10, SETTINGS.size[1] - 10))
        image[:, 20:30, 10:30] = 0.8
        scan = write_scan(folder / name, Scan("7", name, Path("7.nii.gz"), stage="severe"), image, SETTINGS)
        if mask:
            liver = np.zeros(image.shape, bool)
            liver[:, 20:30, 10:30] = True
            np.save(folder / name / "mask.npy", liver)
        scans[name] = scan
    bag = Bag(scans)
    bag.__dict__["shifts"] = {"T1W": 0.0, "T2W": shift}  # an estimate on made-up slices would mean nothing
    return bag


def explained(bag: Bag) -> Explanation:
    """A map that speaks for the score in the square and against it in a square on the other side."""
    maps = {}
    for name, scan in bag.scans.items():
        values = np.zeros(scan.grid.shape, np.float32)
        values[:, 20:30, 10:30], values[:, 40:50, 60:80] = 1, -1
        maps[name] = values
    zeros = {name: np.zeros(len(one)) for name, one in maps.items()}
    shares = ShapleyValues(dict.fromkeys(maps, 0.0), zeros, zeros, zeros, 0.0)
    grids = {name: scan.grid for name, scan in bag.scans.items()}
    told = ("7", "toy", "toy", "A map", True, "severity", 1.0, 0.0, "blurred")
    return Explanation(*told, maps, grids, grids, shares, None, True)


def settle(page: Any) -> None:
    """Until the picture is drawn as it stays."""
    page.wait_for_function("() => document.querySelector('.cn-viewer').viewer.state.sharp")


def state(page: Any) -> dict:
    return page.evaluate("() => document.querySelector('.cn-viewer').viewer.state")


def shown(page: Any, pane: int) -> str:
    return page.locator(".cn-pane canvas").nth(pane).get_attribute("aria-label")


def drawn(page: Any, pane: int = 0) -> np.ndarray:
    """The pixels of a pane, (rows, columns, 3) float."""
    settle(page)
    picture = page.evaluate(f"() => document.querySelectorAll('.cn-pane canvas')[{pane}].toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))).convert("RGB")).astype(float)


def at(picture: np.ndarray, row: float, column: float) -> np.ndarray:
    """The colour drawn at a pixel of the slice."""
    rows, columns = SETTINGS.size
    return picture[int((row + 0.5) / rows * len(picture)), int((column + 0.5) / columns * len(picture[0]))]
