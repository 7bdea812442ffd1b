"""A noise-free slab of a patient in one sequence, with its counterfactual without any sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cirrnb.simulation import liver as hepatic
from cirrnb.simulation import organs, torso, vessels
from cirrnb.simulation.body import Body, Frame, Layer, Layers
from cirrnb.simulation.fields import Array, Window, coverage
from cirrnb.simulation.signs import SIGNS

Worlds: TypeAlias = Sequence[tuple[Array, Body]]
"""The canvas of the patient, and that of the twin where it is wanted."""
Tree: TypeAlias = Sequence[tuple[Array, str, float]]
"""Share, tissue and opacity of the vessels within the liver."""


@dataclass
class Slab:
    """What is painted of a slab: (x, y, z) signal of the patient and of the twin, share of liver, and blame.

    `label` names the sign (place in `SIGNS`, from 1) that did most to a voxel, `blame` how much of the voxel it took.
    """

    real: Array
    counterfactual: Array
    liver: Array
    blame: Array
    label: NDArray[np.uint8]

    def change(self, sign: str, window: Window, amount: Array) -> None:
        """Note that a sign changed `amount` of each voxel; the strongest claim to a voxel wins."""
        label, blame = self.label[window], self.blame[window]
        more = amount > blame
        label[more] = SIGNS.index(sign) + 1
        np.maximum(blame, amount, out=blame)


def paint(
    body: Body, frame: Frame, signals: Mapping[str, float], sequence: str, with_counterfactual: bool = True
) -> Slab:
    """Lay all tissues over each other, from the fat outwards in; see `Layer`."""
    shape = frame.still.shape
    empty = [np.zeros(shape, np.float32) for _ in range(4)]
    slab = Slab(empty[0], empty[1], empty[2], empty[3], np.zeros(shape, np.uint8))
    both = (slab.real, slab.counterfactual) if with_counterfactual else (slab.real,)
    worlds = (
        ((slab.real, body), (slab.counterfactual, body.counterfactual)) if with_counterfactual else ((slab.real, body),)
    )
    _lay((slab.real,), torso.outside(body, frame), signals)
    # Without ascites patient and twin are one up to the spleen, and painted once.
    apart = both if body.shown["ascites"] > 0 else both[:1]
    if len(apart) > 1:
        slab.counterfactual[...] = slab.real
    fluid = list(ascites(body, frame))
    for layer in fluid:
        slab.change("ascites", layer.window, layer.amount)
    _lay((slab.real,), fluid, signals)
    for organ in (vessels.mesentery, organs.bowel, organs.stomach, organs.pancreas, organs.adrenals, organs.kidneys):
        _lay(apart, organ(body, frame), signals)
    if len(apart) < len(both):
        slab.counterfactual[...] = slab.real
    _spleen(worlds, frame, signals, slab)
    for canvas, world in worlds:
        layers = list(vessels.portal_system(world, frame))
        _lay((canvas,), layers, signals)
        if world is body and body.shown["portal"] > 0:
            for layer in layers:
                slab.change("portal", layer.window, 1.5 * layer.amount)
        _lay((canvas,), organs.gallbladder(world, frame), signals)
    _liver(worlds, frame, signals, slab, sequence)
    for still in (torso.chest(body, frame), torso.spine(body, frame), vessels.great_vessels(body, frame)):
        _lay(both, still, signals)
    return slab


def _lay(canvases: Iterable[Array], layers: Layers | Iterable[Layer], signals: Mapping[str, float]) -> None:
    for layer in layers:
        bright = np.float32(signals[layer.tissue]) * layer.shade
        for canvas in canvases:
            view = canvas[layer.window]
            step = bright - view
            step *= layer.amount
            view += step


def ascites(body: Body, frame: Frame) -> Layers:
    """The fluid around liver and spleen and between the loops of bowel; nothing without the sign."""
    if body.shown["ascites"] <= 0:
        return
    points = frame.moved
    inner = frame.inner
    depth = hepatic.fluid_depth(body, points)
    shell = np.maximum(-inner - depth - 5 * np.minimum(depth / 6, 1), inner + 1.2)
    shell = np.maximum(shell, 1.2 * (np.abs(points.x) < 62) * (points.y > 30) + shell)
    rim = coverage(shell, frame.width) * (depth > 0.3)
    pools = organs.between_loops(body, points) * coverage(inner + 2, frame.width)
    yield Layer(frame.everywhere, np.maximum(rim, pools).astype(np.float32), "ascites")


def _spleen(worlds: Worlds, frame: Frame, signals: Mapping[str, float], slab: Slab) -> None:
    window = organs.where_spleen([world for _, world in worlds], frame)
    if window is None:
        return
    moved, confines = frame.part(window).moved, frame.confines[window]
    shade = 1 + 0.025 * worlds[0][1].noise("spleen pulp", 9.0)(moved)
    shares = [coverage(organs.spleen(world, moved, confines), frame.width) for _, world in worlds]
    for (canvas, world), share in zip(worlds, shares, strict=True):
        _lay((canvas,), [Layer(window, share, "spleen", shade), *organs.splenic_branches(world, frame)], signals)
    if len(shares) == 2:
        slab.change("spleen", window, np.abs(shares[0] - shares[1]))


def _liver(worlds: Worlds, frame: Frame, signals: Mapping[str, float], slab: Slab, sequence: str) -> None:
    window = hepatic.where([world for _, world in worlds], frame)
    if window is None:
        return
    tree = vessels.liver_vessels(worlds[0][1], frame, window)
    moved, confines = frame.part(window).moved, frame.confines[window]
    built = [hepatic.build(world, moved, confines) for _, world in worlds]
    shares = [coverage(built_liver.distance, frame.width) for built_liver in built]
    slab.liver[window] = shares[0]
    for (canvas, world), share in zip(worlds, shares, strict=True):
        shade, lace = hepatic.texture(world, moved, sequence, share > 0)
        _lay((canvas,), liver_layers(window, share, shade, lace, tree), signals)
    if len(built) == 2:
        body = worlds[0][1]
        if body.shown[f"nodules_{sequence.lower()}"] > 0:
            slab.change("nodules", window, 0.9 * shares[0] * shares[1])
        _blame_edge(body, built[0], built[1], np.abs(shares[0] - shares[1]), window, slab)


def _blame_edge(
    body: Body, now: hepatic.Liver, before: hepatic.Liver, change: Array, window: Window, slab: Slab
) -> None:
    """Split the change of the liver's edge among nodularity, fossa and notch, and lobes, by who moved it further."""
    bumps, opened = np.abs(now.distance - now.smooth), np.abs(now.smooth - now.closed)
    moved = np.abs(now.closed - before.smooth)
    change = change / (bumps + opened + moved + np.float32(1e-3))
    for sign, reach in (("nodularity", bumps), ("fossa", opened), ("lobes", moved)):
        if body.shown[sign] > 0:
            slab.change(sign, window, change * reach)


def liver_layers(window: Window, share: Array, shade: Array, lace: Array | None, tree: Tree) -> Layers:
    """Parenchyma with its shade, septa, and the vessels that run through them."""
    yield Layer(window, share, "liver", shade)
    if lace is not None:
        yield Layer(window, share * lace, "septa")
    for amount, tissue, opacity in tree:
        yield Layer(window, amount * share * np.float32(opacity), tissue)
