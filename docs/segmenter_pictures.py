"""Pictures of docs/segmenter.md: what the shipped segmenter finds on real scans that were developed on.

`CIRRNB_EXTERNAL_DATA=FOLDER python docs/segmenter_pictures.py` writes segmenter_real.png and segmenter_acquired.png.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread

from cirrnb.data.grid import Grid, Orientation
from cirrnb.data.nifti.reading import read_volume
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.simulation.tissue_shares import ORGANS

HERE = Path(__file__).resolve().parent
HEIGHT, COLUMNS, TITLE = 190, 7, 22
COLOURS = {
    "right lobe": "#ff5050",
    "left lobe": "#ffa040",
    "caudate": "#ffe24a",
    "spleen": "#4ac3ff",
    "ascites": "#3f6bff",
    "portal and splenic vein": "#ff6cff",
    "gallbladder": "#3dff6e",
    "kidneys": "#c58bff",
}


@dataclass(frozen=True)
class Picture:
    """A volume in the file's own order of axes and what is written above it."""

    title: str
    volume: NDArray
    grid: Grid
    along: int = 0
    """Axis of (slices, rows, columns) that is stepped through: 0 axial, 1 coronal."""


def main() -> None:
    data = Path(os.environ["CIRRNB_EXTERNAL_DATA"])
    segmenter = Segmenter.load()
    named = [
        ("T1W, no fat suppression (TotalSegmentator example)", "totalsegmentator_mr/example_mr_sm.nii.gz", 0),
        *((f"T2W, fat suppression, healthy (CHAOS {n})", f"chaos_t2/image_{n}.nii.gz", 0) for n in (1, 2, 3)),
        ("T2W, no fat suppression (CMB-CRC)", "cmb_crc/SCAN_001_t2_small.nii.gz", 0),
    ]
    pictures = [Picture(title, *read_volume(data / path), along) for title, path, along in named]
    sheet(segmenter, pictures).save(HERE / "segmenter_real.png", optimize=True)
    named = [
        ("Coronal gradient echo (ukat)", "coronal_gre/magnitude.nii.gz", 1),
        ("Coronal, flip angle 2 (mdreg)", "vfa_liver/flip_02.nii.gz", 1),
        ("Coronal, flip angle 25 (mdreg)", "vfa_liver/flip_25.nii.gz", 1),
        ("Three slices of the dome (CREAM_PDFF)", "dome_gre/dome_gre.nii.gz", 0),
    ]
    pictures = [Picture(title, *read_volume(data / path), along) for title, path, along in named]
    sheet(segmenter, [*pictures, *single(data), dicom_slice(data)]).save(HERE / "segmenter_acquired.png", optimize=True)


def single(data: Path) -> list[Picture]:
    """The slices of CirrMRI600+ that were cut from figures, rows along the patient's x axis, 360 mm assumed."""
    pictures = []
    for path in sorted((data / "cirrmri600" / "slices").glob("*.png")):
        if "mask" not in path.name:
            values = np.asarray(Image.open(path).convert("L"), np.float32)[:, :, None]
            step = 360 / values.shape[0]
            grid = Grid(values.shape, np.diag([-step, -step, 7.0, 1.0]))
            pictures.append(Picture(f"T2W, CirrMRI600+ {path.name.split('_')[1]}", values, grid))
    return pictures


def dicom_slice(data: Path) -> Picture:
    """One DICOM slice after contrast agent, with ascites and a lesion."""
    file = dcmread(next(path for path in sorted((data / "vibe_dicom").iterdir()) if path.suffix == ".dcm"))
    along, down = (np.array(file.ImageOrientationPatient[start : start + 3], float) for start in (0, 3))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along * file.PixelSpacing[1], down * file.PixelSpacing[0]
    affine[:3, 2], affine[:3, 3] = np.cross(along, down) * file.SliceThickness, file.ImagePositionPatient
    affine[:2] *= -1  # DICOM counts to the left and back
    values = file.pixel_array.T[:, :, None].astype(np.float32)
    return Picture("T1W VIBE, one slice (pydicom)", values, Grid(values.shape, affine))


def sheet(segmenter: Segmenter, pictures: Sequence[Picture]) -> Image.Image:
    """Pictures below each other, single slices side by side, and the meaning of the colours."""
    rows: list[list[Image.Image]] = []
    titles: list[str] = []
    alone: list[tuple[str, Image.Image]] = []
    for picture in pictures:
        tiles = _tiles(segmenter, picture)
        if len(tiles) == 1:
            alone.append((picture.title, tiles[0]))
        else:
            rows.append(tiles)
            titles.append(picture.title)
    if alone:
        rows.append([tile for _, tile in alone])
        titles.append(" | ".join(title for title, _ in alone))
    width = max(sum(tile.width for tile in row) for row in rows)
    whole = Image.new("RGB", (width, len(rows) * (HEIGHT + TITLE) + TITLE), "black")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=14)
    for number, (row, title) in enumerate(zip(rows, titles, strict=True)):
        top, left = number * (HEIGHT + TITLE), 0
        draw.text((6, top + 3), title, fill="white", font=font)
        for tile in row:
            whole.paste(tile, (left, top + TITLE))
            left += tile.width
    left = 6
    for name, colour in COLOURS.items():
        draw.text((left, whole.height - TITLE + 3), name, fill=colour, font=font)
        left += int(draw.textlength(name, font=font)) + 18
    return whole


def _tiles(segmenter: Segmenter, picture: Picture) -> list[Image.Image]:
    turned = Orientation.of(picture.grid)
    volume = np.moveaxis(turned.apply(picture.volume), picture.along, 0)
    labels = np.moveaxis(turned.apply(segmenter.segment(picture.volume, picture.grid).labels), picture.along, 0)
    spacing = np.delete(turned.grid(picture.grid).spacing, picture.along)
    if picture.along:  # the head is up
        volume, labels = volume[:, ::-1], labels[:, ::-1]
    low, high = np.percentile(volume, (1, 99.4))
    places = np.linspace(0, len(volume) - 1, COLUMNS + 2)[1:-1] if len(volume) > COLUMNS else np.arange(len(volume))
    return [_tile(volume[int(place)], labels[int(place)], spacing, low, high) for place in places]


def _tile(values: NDArray, labels: NDArray, spacing: NDArray, low: float, high: float) -> Image.Image:
    scale = HEIGHT / (values.shape[0] * spacing[0])
    grey = np.clip((values.astype(np.float32) - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    size = (max(1, round(values.shape[1] * spacing[1] * scale)), HEIGHT)
    tile = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(tile)
    for name, colour in COLOURS.items():
        inside = np.pad(labels == ORGANS.index(name) + 1, 1).astype(np.float32)
        if inside.any():
            for line in contour_generator(z=inside).lines(0.5):
                points = (line - 0.5) * [size[0] / values.shape[1], size[1] / values.shape[0]]
                draw.line([tuple(point) for point in points], fill=colour, width=1)
    font = ImageFont.load_default(size=12)
    draw.text((3, HEIGHT // 2 - 6), "R", fill="white", font=font)
    draw.text((size[0] - 11, HEIGHT // 2 - 6), "L", fill="white", font=font)
    return tile


if __name__ == "__main__":
    main()
