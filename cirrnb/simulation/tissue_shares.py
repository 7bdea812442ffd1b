"""Shares of tissues and organs in each voxel, from the layers that painting lays over each other.

Composited from the last layer to the first with one transmittance array, a single pass gives the share of each tissue
(times the layer's shade, so that the image of a sequence is the sum over tissues of signal times share) and of each
organ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cirrnb.simulation import liver as hepatic
from cirrnb.simulation import organs, torso, vessels
from cirrnb.simulation.body import Body, Frame, Layer, Layers
from cirrnb.simulation.fields import Array, Points, coverage
from cirrnb.simulation.scene import ascites, liver_layers

ORGANS = (
    *("right lobe", "left lobe", "caudate", "spleen", "ascites", "portal and splenic vein", "aorta", "gallbladder"),
    *("kidneys", "vertebrae", "back muscle", "body"),
)
"""Organs in the order of their labels: right lobe is 1, body (all that is within the skin and nothing else) 12."""

LIVER = (1, 2, 3)
"""Labels that together are the liver."""

Named: TypeAlias = tuple[str, Layer]
"""The organ a layer belongs to, and the layer."""
Shares: TypeAlias = dict[str, Array]
Extra: TypeAlias = Callable[[Body, Frame], tuple[Sequence[Named], Sequence[Named]]]
"""Gives the layers that lie below and those that lie above the body's own."""
Bytes: TypeAlias = NDArray[np.uint8]


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


def _of(organ: str, parts: Layers) -> Iterator[Named]:
    for layer in parts:
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
