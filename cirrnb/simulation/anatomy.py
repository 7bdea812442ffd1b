"""A patient's anatomy as tissue shares: an image of any contrast is drawn from them without painting anew.

Painting lays tissues over each other. Composited from the last layer to the first with one transmittance array, a
single pass gives the share of each tissue in each voxel. The image of a sequence is the sum over tissues of signal
times share (multiplied by the layer's shade). Beside the shares stands one label a voxel: the organ that takes
most of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cirrnb.data.errors import InputError
from cirrnb.data.writing import replacing
from cirrnb.simulation import liver as hepatic
from cirrnb.simulation import organs, torso, vessels
from cirrnb.simulation.body import Body, Frame, Layer, Layers
from cirrnb.simulation.fields import Array, Points, Vector, coverage
from cirrnb.simulation.scene import ascites, liver_layers
from cirrnb.simulation.tissue import TISSUES

ANATOMY_VERSION = 1
"""Raised by hand when the shares or labels of an equal body change; a test guards it."""

ORGANS = (
    *("right lobe", "left lobe", "caudate", "spleen", "ascites", "portal and splenic vein", "aorta", "gallbladder"),
    *("kidneys", "vertebrae", "back muscle", "body"),
)
"""Organs in the order of their labels: right lobe is 1, body (all that is within the skin and nothing else) 12."""

LIVER = (1, 2, 3)
"""Labels that together are the liver."""

TISSUE_NAMES = (*TISSUES, "liver T2W", "septa T2W")
"""Tissues in the order of their numbers in stored shares; the last two carry the texture that T2W shows."""

KEPT = 4
"""Tissues stored of a voxel, the largest shares first."""

SHARE_UNIT = 160.0
"""Stored units of a whole voxel: a share times its shade reaches 1.59."""

POINTS_AT_ONCE = 400_000

Named: TypeAlias = tuple[str, Layer]
"""The organ a layer belongs to, and the layer."""
Shares: TypeAlias = dict[str, Array]
Extra: TypeAlias = Callable[[Body, Frame], tuple[Sequence[Named], Sequence[Named]]]
"""Gives the layers that lie below and those that lie above the body's own."""
Bytes: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Anatomy:
    """Tissue shares and organ labels of one body on a grid.

    Attributes
    ----------
    tissue : (slices, rows, columns, KEPT) uint8 numbers of tissues in `TISSUE_NAMES`; slices run to the head, rows to
        the back, columns to the patient's left.
    share : the same shape, uint8 share times shade in units of 1 / `SHARE_UNIT`; 0 where fewer tissues are there.
    label : (slices, rows, columns) uint8, 0 outside the body, else 1 plus the organ's place in `ORGANS`.
    spacing, origin : mm along slices, rows, columns; origin is the first voxel's centre (head, back, left).
    version : `ANATOMY_VERSION` of the program that made it.
    """

    tissue: NDArray[np.uint8]
    share: NDArray[np.uint8]
    label: NDArray[np.uint8]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    version: int = ANATOMY_VERSION

    def image(self, signals: Mapping[str, float], sequence: str = "T1W", slices: slice = slice(None)) -> Array:
        """(slices, rows, columns) float32 noise-free image of a contrast, from the signal of every tissue.

        `sequence` says whose texture of the parenchyma is shown.
        """
        table = signal_table(signals, sequence) / np.float32(SHARE_UNIT)
        tissue, share = self.tissue[slices], self.share[slices]
        image = table[tissue[..., 0]] * share[..., 0]
        for k in range(1, tissue.shape[-1]):
            image += table[tissue[..., k]] * share[..., k]
        return image


def signal_table(signals: Mapping[str, float], sequence: str) -> NDArray[np.float32]:
    """Signals in the order of `TISSUE_NAMES`; the texture of the other sequence has no signal."""
    hidden = ("liver T2W", "septa T2W") if sequence == "T1W" else ("liver", "septa")
    return np.array(
        [0.0 if name in hidden else signals[name.removesuffix(" T2W")] for name in TISSUE_NAMES], np.float32
    )


def layers(body: Body, frame: Frame, sequence: str) -> Iterator[Named]:
    """All layers of a body without noise, from the outermost in, in the order in which `scene.paint` lays them."""
    yield from _of("body", torso.outside(body, frame))
    yield from _of("ascites", ascites(body, frame))
    yield from _of("body", vessels.mesentery(body, frame))
    for organ in (organs.bowel, organs.stomach, organs.pancreas, organs.adrenals):
        yield from _of("body", organ(body, frame))
    for layer in organs.kidneys(body, frame):
        yield ("body" if layer.tissue == "fat" else "kidneys"), layer
    yield from _spleen(body, frame)
    yield from _of("portal and splenic vein", vessels.portal_system(body, frame))
    for layer in organs.gallbladder(body, frame):
        yield ("body" if layer.tissue == "duct" else "gallbladder"), layer
    yield from _liver(body, frame, sequence)
    yield from _of("body", torso.chest(body, frame))
    yield from torso.spine_parts(body, frame)
    yield from _of("body", vessels.great_vessels(body, frame))


def _of(organ: str, found: Layers) -> Iterator[Named]:
    for layer in found:
        yield organ, layer


def _spleen(body: Body, frame: Frame) -> Iterator[Named]:
    window = organs.where_spleen([body], frame)
    if window is None:
        return
    moved, confines = frame.part(window).moved, frame.confines[window]
    shade = 1 + 0.025 * body.noise("spleen pulp", 9.0)(moved)
    yield "spleen", Layer(window, coverage(organs.spleen(body, moved, confines), frame.width), "spleen", shade)
    yield from _of("body", organs.splenic_branches(body, frame))


def _liver(body: Body, frame: Frame, sequence: str) -> Iterator[Named]:
    window = hepatic.where([body], frame)
    if window is None:
        return
    tree = vessels.liver_vessels(body, frame, window)
    moved, confines = frame.part(window).moved, frame.confines[window]
    share = coverage(hepatic.build(body, moved, confines).distance, frame.width)
    shade, lace = hepatic.texture(body, moved, sequence, share > 0)
    yield from _of("liver", iter(list(liver_layers(window, share, shade, lace, tree))))


def compose(named: Sequence[Named], shape: tuple[int, int, int]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Shares of tissues, times shade, and shares of organs: (x, y, z) float32 arrays by name.

    Goes through the layers from the last to the first: what a layer takes is what those above it let through.
    """
    through = np.ones(shape, np.float32)
    tissues: dict[str, Array] = {}
    parts: dict[str, Array] = {}
    for organ, layer in reversed(named):
        view = through[layer.window]
        taken = layer.amount * view
        view -= taken
        for shares, name, amount in ((parts, organ, taken), (tissues, layer.tissue, taken * layer.shade)):
            if name not in shares:
                shares[name] = np.zeros(shape, np.float32)
            shares[name][layer.window] += amount
    return tissues, parts


def organ_labels(body: Body, frame: Frame, parts: Mapping[str, Array]) -> dict[str, Array]:
    """Shares by the names in `ORGANS` from those that `compose` gave: lobes apart, the aorta out of the body.

    A voxel of the liver belongs to the lobe whose surface it lies deepest under.
    """
    shares = {name: share for name, share in parts.items() if name not in ("liver", "body")}
    rest = parts["body"].copy()
    window = hepatic.where([body], frame)
    if "liver" in parts and window is not None:
        moved, confines = frame.part(window).moved, frame.confines[window]
        distances = hepatic.lobe_distances(body, moved, confines + hepatic.gap(body, moved))
        lobe = np.argmin(np.stack(np.broadcast_arrays(*distances)), axis=0)
        for number, name in enumerate(ORGANS[: len(LIVER)]):
            shares[name] = np.zeros_like(rest)
            shares[name][window] = parts["liver"][window] * (lobe == number)
    aorta = np.zeros_like(rest)
    for layer in vessels.tubes(frame, vessels.aorta_segments(body), "artery"):
        np.maximum(aorta[layer.window], layer.amount, out=aorta[layer.window])
    shares["aorta"] = np.minimum(aorta, rest)
    shares["body"] = rest - shares["aorta"]
    return shares


def organ_shares(body: Body, frame: Frame) -> Shares:
    """Shares of `ORGANS` in a frame, (x, y, z) float32 arrays by name."""
    named = list(layers(body, frame, "T1W"))
    return organ_labels(body, frame, compose(named, frame.still.shape)[1])


def largest(shares: Mapping[str, Array]) -> Bytes:
    """Label of the organ with the largest share in each voxel; 0 where most lies outside the body."""
    rest = 1 - np.sum(list(shares.values()), axis=0)
    label, best = np.zeros(rest.shape, np.uint8), rest
    for number, name in enumerate(ORGANS, start=1):
        if name in shares:
            more = shares[name] > best
            label[more] = number
            best = np.where(more, shares[name], best)
    return label


def tissue_shares(body: Body, points: Points, width: float, extra: Extra | None = None) -> tuple[Shares, Shares]:
    """Shares of tissues (T2W's texture under names of its own) and of `ORGANS`, for points in mm.

    `extra` gives layers that lie below and above the body's own. The texture of T1W is exact; that of T2W shares the
    transmittance of T1W at the liver's edge.
    """
    frame = Frame(points.moved(body.scale, (0, 0, 0)), points.moved(body.scale, (0, 0, 0)), width)
    below, above = extra(body, frame) if extra else ((), ())
    named = [*below, *layers(body, frame, "T1W"), *above]
    tissues, parts = compose(named, frame.still.shape)
    _add_t2w_texture(body, frame, tissues)
    return tissues, organ_labels(body, frame, parts)


def _add_t2w_texture(body: Body, frame: Frame, tissues: Shares) -> None:
    window = hepatic.where([body], frame)
    if window is None or "liver" not in tissues:
        return
    moved, first = frame.part(window).moved, tissues["liver"][window]
    shade, _ = hepatic.texture(body, moved, "T1W", first > 0)
    other, lace = hepatic.texture(body, moved, "T2W", first > 0)
    # What liver and septa take together stays; how they divide it, and the shade, are those of T2W.
    both = first / shade + (tissues["septa"][window] if "septa" in tissues else 0)
    thread = np.float32(0) if lace is None else lace
    for name, amount in (("liver T2W", both * (1 - thread) * other), ("septa T2W", both * thread)):
        tissues[name] = np.zeros(frame.still.shape, np.float32)
        tissues[name][window] = amount


def build_anatomy(
    body: Body,
    low: Vector,
    high: Vector,
    spacing: tuple[float, float, float] = (3.0, 2.5, 2.5),
    extra: Extra | None = None,
) -> Anatomy:
    """Shares and labels of a body between two corners.

    Parameters
    ----------
    low, high : corners in mm (left, back, head) of the patient; z = 0 is the porta hepatis.
    spacing : mm along slices, rows, columns of the result.
    extra : further layers, as for `tissue_shares`.
    """
    axes = [np.arange(a, b, step, dtype=np.float32) for a, b, step in zip(low, high, spacing[::-1], strict=True)]
    width = float(np.mean(spacing[1:]) / np.mean(body.scale[:2]))
    at_once = max(1, POINTS_AT_ONCE // (axes[0].size * axes[1].size))
    packed = []
    for start in range(0, axes[2].size, at_once):
        points = Points((axes[0], axes[1], axes[2][start : start + at_once]))
        packed.append(_pack(*tissue_shares(body, points, width, extra), points.shape))
    tissue, share, label = (np.concatenate(parts) for parts in zip(*packed, strict=True))
    return Anatomy(tissue, share, label, spacing, (float(low[2]), float(low[1]), float(low[0])))


def _pack(tissues: Shares, organs_: Shares, shape: tuple[int, int, int]) -> tuple[Bytes, Bytes, Bytes]:
    """The largest shares of every voxel as bytes, and its label; slices first."""
    size = int(np.prod(shape))
    names = [name for name in TISSUE_NAMES if name in tissues]
    stack = np.stack([tissues[name].transpose(2, 1, 0).ravel() for name in names])
    numbers = np.array([TISSUE_NAMES.index(name) for name in names], np.uint8)
    tissue, share = np.zeros((size, KEPT), np.uint8), np.zeros((size, KEPT), np.uint8)
    left = np.arange(size)
    for k in range(KEPT):
        first = stack.argmax(axis=0)
        value = stack[first, np.arange(left.size)]
        tissue[left, k] = numbers[first]
        share[left, k] = np.clip(np.round(value * SHARE_UNIT), 0, 255)
        stack[first, np.arange(left.size)] = 0
        mixed = stack.max(axis=0) > 0.5 / SHARE_UNIT
        left, stack = left[mixed], stack[:, mixed]
        if left.size == 0:
            break
    sides = (shape[2], shape[1], shape[0])
    label = np.ascontiguousarray(largest(organs_).transpose(2, 1, 0))
    return tissue.reshape(*sides, KEPT), share.reshape(*sides, KEPT), label


def save_anatomy(path: Path, anatomy: Anatomy) -> None:
    """Write shares and labels as one compressed file, atomically; about 3 MB for a trunk."""
    tensors: dict[str, NDArray[Any]] = {
        "tissue": anatomy.tissue,
        "share": anatomy.share,
        "label": anatomy.label,
        "spacing": np.array(anatomy.spacing, np.float64),
        "origin": np.array(anatomy.origin, np.float64),
        "version": np.array([anatomy.version], np.int64),
    }
    with replacing(path) as partial:
        partial.write_bytes(zlib.compress(save(tensors), 1))


def load_anatomy(path: Path) -> Anatomy:
    """Read what `save_anatomy` wrote, of any version. Raises InputError for a file that is not one."""
    try:
        parts = load(zlib.decompress(path.read_bytes()))
        spacing, origin = ((float(a), float(b), float(c)) for a, b, c in (parts["spacing"], parts["origin"]))
        return Anatomy(parts["tissue"], parts["share"], parts["label"], spacing, origin, int(parts["version"][0]))
    except (zlib.error, SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            path, f"not readable ({error})", "a stored anatomy", "Remove it; it is built again."
        ) from error
