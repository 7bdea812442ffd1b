"""The segmenter: a volume in, the liver's lobes and other organs out, on the volume's own grid."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cirrnb.data.grid import Grid, Orientation
from cirrnb.segmentation.inputs import channels
from cirrnb.segmentation.network import OrganNetwork, fused
from cirrnb.segmentation.observations import observe
from cirrnb.segmentation.surroundings import LEVELS, pooled, regions
from cirrnb.segmentation.weights import CERTAIN, SegmenterConfig, fingerprint, load_network, shipped_folder
from cirrnb.segmentation.working_grid import WorkingGrid
from cirrnb.simulation.tissue_shares import LIVER, ORGANS

PIECE, CONTEXT = 16, 4
"""Slices labelled at a time, and slices on either side of them that are only looked at."""
KEEP_PART = 0.15
"""A separate piece of liver or spleen is kept if it has this share of the largest piece; the others become body."""
SPLEEN, ASCITES, BODY = (ORGANS.index(name) + 1 for name in ("spleen", "ascites", "body"))
EXPECTED_ASCITES = "expected volume of ascites"
"""Observation: mL, the sum of the voxels' probabilities, whether or not any is certain."""
LOOKED_AT = 10
"""Slices that are looked at mirrored and turned, to tell the patient's sides."""
EDGE = 0.02
"""Share of the liver's largest cross-section in the first or last slice from which the liver counts as cut off."""


@dataclass(frozen=True)
class Segmentation:
    """Organs of one volume.

    Attributes
    ----------
    labels : uint8 on `grid`, in the file's own order of axes: 0 outside the body, else 1 plus the place in `ORGANS`.
    grid : of the volume.
    drawn_by : program and version, for tables and figures.
    probability : mean probability, 0 to 1, that the network gives the liver within the liver; None without one.
    observed : sizes, places and signals of the organs, see `cirrnb.segmentation.observations.observe`.
    features : what the encoder saw in the liver and around it, see `cirrnb.segmentation.surroundings.pooled`; None
        without a liver.
    """

    labels: NDArray[np.uint8]
    grid: Grid
    drawn_by: str
    probability: float | None
    observed: Mapping[str, float] = field(default_factory=dict)
    features: NDArray[np.float32] | None = None

    @property
    def liver(self) -> NDArray[np.bool_]:
        """Mask of the liver, all lobes, in the file's own order of axes."""
        return (self.labels >= LIVER[0]) & (self.labels <= LIVER[-1])

    def organ(self, name: str) -> NDArray[np.bool_]:
        """Mask of one of `ORGANS`, or of the "liver"."""
        return self.liver if name == "liver" else self.labels == ORGANS.index(name) + 1

    @cached_property
    def volumes(self) -> dict[str, float]:
        """Volume in mL of each of `ORGANS` and of the liver."""
        voxel = self.grid.voxel_volume / 1000
        counts = np.bincount(self.labels.ravel(), minlength=len(ORGANS) + 1)[1:] * voxel
        by_organ = {name: float(volume) for name, volume in zip(ORGANS, counts, strict=True)}
        return {"liver": sum(by_organ[ORGANS[label - 1]] for label in LIVER), **by_organ}

    @cached_property
    def cut_off(self) -> tuple[str, ...]:
        """Borders of the volume at which the liver ends: "lowest slice", "highest slice", "edge of the image"."""
        liver = Orientation.of(self.grid).apply(self.liver)
        areas = liver.sum(axis=(1, 2))
        borders = [
            name
            for place, name in ((0, "lowest slice"), (-1, "highest slice"))
            if areas[place] > EDGE * max(1, areas.max())
        ]
        if liver[:, [0, -1]].any() or liver[:, :, [0, -1]].any():
            borders.append("edge of the image")
        return tuple(borders)


class Segmenter:
    """The trained network with all that is needed to use it.

    Example::

        segmenter = Segmenter.load()
        found = segmenter.segment(*read_volume("scan.nii.gz"))
        found.volumes["liver"], found.probability
    """

    def __init__(self, network: OrganNetwork, config: SegmenterConfig, device: str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self.fingerprint = fingerprint(network, config.certain_ascites)
        self._network = fused(copy.deepcopy(network).eval()).to(memory_format=torch.channels_last).to(self.device)

    @classmethod
    def load(cls, folder: Path | str | None = None, device: str = "cpu") -> Segmenter:
        """The segmenter of a folder that a training wrote, by default the one that comes with the package.

        Raises InputError if the folder or a file in it is missing, damaged, or of another format.
        """
        network, config = load_network(Path(folder) if folder else shipped_folder())
        return cls(network, config, device)

    @property
    def drawn_by(self) -> str:
        """Program and version, as tables and figures call it."""
        return f"cirrnb segmenter {self.config.version} ({self.fingerprint[:8]})"

    def segment(self, volume: NDArray, grid: Grid) -> Segmentation:
        """Organs of a volume in the file's own order of axes, of any size, orientation and contrast.

        Finite values only (as `read_volume` gives them). A volume without a liver gives labels without one.
        """
        if volume.shape != grid.shape:
            raise ValueError(f"a volume of {volume.shape} does not lie on a grid of {grid.shape}")
        turned = Orientation.of(grid)
        working = WorkingGrid.of(turned.grid(grid))
        # The context is set here, whatever the caller's is.
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            image = working.reduce(turned.apply(volume))
            shares, features = self._look(image)
            voxel = float(np.prod(working.spacing(turned.grid(grid)))) / 1000
            expected = float(shares[ASCITES].sum()) * voxel
            if float((shares[ASCITES] > CERTAIN).sum()) * voxel < self.config.certain_ascites:
                shares = without(shares, ASCITES)
            shares = clean(shares)
            labels = working.enlarge(shares)
            label_probability, best = shares.max(dim=0)
            observed = observe(
                image.numpy(),
                best.to(torch.uint8).numpy(),
                label_probability.numpy(),
                working.spacing(turned.grid(grid)),
            )
            liver = shares[LIVER[0] : LIVER[-1] + 1].sum(dim=0)
            observed |= self._turned(image, liver) | {EXPECTED_ASCITES: expected}
            inside = liver > 0.5
            masks = regions(inside.numpy(), (best > 0).numpy(), working.spacing(turned.grid(grid)))
            seen = pooled(features, masks, self._network.settings.multiple)
        probability = float(liver[inside].mean()) if bool(inside.any()) else None
        labels = np.ascontiguousarray(turned.undo(labels))
        return Segmentation(labels, grid, self.drawn_by, probability, observed, seen)

    def _turned(self, image: Tensor, liver: Tensor) -> dict[str, float]:
        """Log ratios of the liver found in the volume to that in the mirrored and the front-to-back flipped volume.

        At most `LOOKED_AT` evenly spaced slices are used.
        """
        every = -(-len(image) // LOOKED_AT)
        chosen, ratios = image[::every], {}
        stands = float(liver[::every].sum())
        for name, axis in (("mirrored", 2), ("front to back", 1)):
            shares = self.probabilities(chosen.flip(axis))
            turned = float(shares[LIVER[0] : LIVER[-1] + 1].sum())
            ratios[f"liver as it stands against {name}"] = float(np.log((stands + 50) / (turned + 50)))
        return ratios

    def probabilities(self, image: Tensor) -> Tensor:
        """(classes, slices, rows, columns) float32 from an image on the working grid, in pieces."""
        return self._look(image)[0]

    def _look(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Probabilities, and the encoder's features of `surroundings.LEVELS`, of the image padded to a multiple."""
        inputs = channels(image)
        multiple = self._network.settings.multiple
        rows, columns = (-(-size // multiple) * multiple - size for size in image.shape[1:])
        inputs = torch.nn.functional.pad(inputs, (0, columns, 0, rows))
        parts: list[Tensor] = []
        levels = [level for level in LEVELS if level < len(self._network.settings.widths)]
        seen: list[list[Tensor]] = [[] for _ in levels]
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(inputs), PIECE):
                low, high = max(0, start - CONTEXT), min(len(inputs), start + PIECE + CONTEXT)
                features = self._network.encode(inputs[None, low:high].float().to(self.device))
                logits = self._network.decode(features, 1, high - low)[0]
                inner = slice(start - low, start - low + PIECE)
                parts.append(logits[inner, :, : image.shape[1], : image.shape[2]].float().softmax(dim=1).cpu())
                for level, kept in zip(levels, seen, strict=True):
                    kept.append(features[level][inner].half().cpu())
        return torch.cat(parts).movedim(1, 0).clone(), [torch.cat(kept) for kept in seen]


def without(shares: Tensor, label: int) -> Tensor:
    """Probabilities (classes, ...) of the other classes, given that it is not this one."""
    others = shares.clone()
    others[label] = 0
    return others / others.sum(dim=0, keepdim=True).clamp_min(1e-12)


def clean(shares: Tensor) -> Tensor:
    """Move small separate pieces of liver and spleen to the body, and fill holes in the liver, slice by slice."""
    labels = shares.argmax(dim=0).numpy()
    liver = (labels >= LIVER[0]) & (labels <= LIVER[-1])
    for organ, classes in ((liver, LIVER), (labels == SPLEEN, (SPLEEN,))):
        parts, count = ndimage.label(organ)
        if count < 2:
            continue
        sizes = np.bincount(parts.ravel())[1:]
        small = np.flatnonzero(sizes < KEEP_PART * sizes.max()) + 1
        gone = torch.from_numpy(np.isin(parts, small))
        for number in classes:
            shares[BODY][gone] += shares[number][gone]
            shares[number][gone] = 0
            liver &= ~gone.numpy() if number in LIVER else True
    holes = np.stack([ndimage.binary_fill_holes(plane) for plane in liver]) & ~liver & (labels == BODY)
    if holes.any():
        filled = torch.from_numpy(holes)
        nearest = shares[LIVER[0] : LIVER[-1] + 1].argmax(dim=0)
        for number in LIVER:
            here = filled & (nearest == number - LIVER[0])
            shares[number][here] += shares[BODY][here]
        shares[BODY][filled] = 0
    return shares
