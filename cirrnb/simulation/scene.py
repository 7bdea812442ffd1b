"""A slab of a patient as one sequence would see it without noise, and beside it the twin without any sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from cirrnb.simulation import liver as hepatic
from cirrnb.simulation import organs, torso, vessels
from cirrnb.simulation.body import Body, Frame, Layer, Layers, cavity
from cirrnb.simulation.fields import Array, Window, coverage
from cirrnb.simulation.signs import SIGNS


@dataclass
class Slab:
    """What is painted of a slab: (x, y, z) signal of the patient and of the twin, share of liver, blame by sign.

    `blame` says how much of each voxel's change a sign is responsible for, on a scale of shares of a voxel.
    """

    real: Array
    twin: Array
    liver: Array
    blame: Array


def paint(body: Body, frame: Frame, signals: Mapping[str, float], sequence: str, with_twin: bool = True) -> Slab:
    """Lay all tissues over each other, from the fat outwards in; see `Layer`."""
    shape = frame.still.shape
    slab = Slab(*(np.zeros(shape, np.float32) for _ in range(3)), blame=np.zeros((len(SIGNS), *shape), np.float32))
    twin = body.healthy_twin()
    canvases = (slab.real, slab.twin) if with_twin else (slab.real,)
    fixed = (
        (lambda: torso.outside(body, frame)),
        (lambda: _ascites(body, frame, slab)),
        (lambda: organs.bowel(body, frame)),
        (lambda: organs.stomach(body, frame)),
        (lambda: organs.pancreas(body, frame)),
        (lambda: organs.adrenals(body, frame)),
        (lambda: organs.kidneys(body, frame)),
    )
    for step, layers in enumerate(fixed):
        _lay(canvases[:1] if step == 1 else canvases, layers(), signals)
    _spleen(body, twin, frame, signals, slab, with_twin)
    _portal(body, twin, frame, signals, slab, with_twin)
    _lay((slab.real,), organs.gallbladder(body, frame), signals)
    if with_twin:
        _lay((slab.twin,), organs.gallbladder(twin, frame), signals)
    _liver(body, twin, frame, signals, slab, sequence, with_twin)
    for layers in (torso.chest(body, frame), torso.spine(body, frame), vessels.great_vessels(body, frame)):
        _lay(canvases, layers, signals)
    return slab


def _lay(canvases: Iterable[Array], layers: Layers | Iterable[Layer], signals: Mapping[str, float]) -> None:
    for layer in layers:
        bright = np.float32(signals[layer.tissue]) * layer.shade
        for canvas in canvases:
            view = canvas[layer.window]
            view += layer.amount * (bright - view)


def _ascites(body: Body, frame: Frame, slab: Slab) -> Layers:
    if body.shown["ascites"] <= 0:
        return
    points = frame.moved
    inner = cavity(frame.still)
    depth = hepatic.fluid_depth(body, points)
    shell = np.maximum(-inner - depth - 5 * np.minimum(depth / 6, 1), inner + 1.2)
    shell = np.maximum(shell, 1.2 * (np.abs(points.x) < 62) * (points.y > 30) + shell)
    rim = coverage(shell, frame.width) * (depth > 0.3)
    pools = organs.between_loops(body, points) * coverage(inner + 2, frame.width)
    amount = np.maximum(rim, pools).astype(np.float32)
    slab.blame[SIGNS.index("ascites")] += amount
    yield Layer(frame.everywhere, amount, "ascites")


def _change(slab: Slab, sign: str, window: Window, amount: Array) -> None:
    view = slab.blame[(SIGNS.index(sign), *window)]
    np.maximum(view, amount, out=view)


def _spleen(body: Body, twin: Body, frame: Frame, signals: Mapping[str, float], slab: Slab, with_twin: bool) -> None:
    found = organs.spleen(body, frame)
    if found is None:
        return
    shade = (1 + 0.025 * body.noise("spleen pulp", 9.0)(frame.part(found[0]).moved)).astype(np.float32)
    share = coverage(found[1], frame.width)
    _lay((slab.real,), [Layer(found[0], share, "spleen", shade)], signals)
    hilum = list(organs.splenic_branches(body, frame))
    _lay((slab.real,), hilum, signals)
    if with_twin:
        before = organs.spleen(twin, frame)
        assert before is not None
        was = coverage(before[1], frame.width)
        _lay((slab.twin,), [Layer(found[0], was, "spleen", shade), *organs.splenic_branches(twin, frame)], signals)
        _change(slab, "spleen", found[0], np.abs(share - was))


def _portal(body: Body, twin: Body, frame: Frame, signals: Mapping[str, float], slab: Slab, with_twin: bool) -> None:
    new = list(vessels.portal_system(body, frame))
    _lay((slab.real,), new, signals)
    if not with_twin:
        return
    _lay((slab.twin,), vessels.portal_system(twin, frame), signals)
    if body.shown["portal"] > 0:
        for layer in new:
            _change(slab, "portal", layer.window, 1.5 * layer.amount)


def _liver(
    body: Body,
    twin: Body,
    frame: Frame,
    signals: Mapping[str, float],
    slab: Slab,
    sequence: str,
    with_twin: bool,
) -> None:
    found = hepatic.build(body, frame)
    if found is None:
        return
    share = coverage(found.distance, frame.width)
    slab.liver[found.window] = share
    moved = frame.part(found.window).moved
    shade, lace = hepatic.texture(body, moved, sequence)
    _lay((slab.real,), _liver_layers(body, frame, found.window, share, shade, lace), signals)
    if not with_twin:
        return
    before = hepatic.build(twin, frame)
    assert before is not None
    was = coverage(before.distance, frame.width)
    plain, none = hepatic.texture(twin, moved, sequence)
    _lay((slab.twin,), _liver_layers(twin, frame, found.window, was, plain, none), signals)
    _blame_liver(body, frame, found, before, share, was, slab)


def _blame_liver(
    body: Body, frame: Frame, found: hepatic.Liver, before: hepatic.Liver, share: Array, was: Array, slab: Slab
) -> None:
    """Split the change of the liver's edge among nodularity, fossa and notch, and lobes, by who moved it further."""
    both = share * was
    _change(slab, "nodules", found.window, 0.9 * both)
    change = np.abs(share - was)
    bumps = np.abs(found.distance - found.smooth)
    closed = hepatic.build(replace(body, shown={**body.shown, "fossa": 0.0, "nodularity": 0.0}), frame)
    assert closed is not None
    opened = np.abs(found.smooth - closed.smooth)
    moved = np.abs(closed.smooth - before.smooth)
    for sign, reach in (("nodularity", bumps), ("fossa", opened), ("lobes", moved)):
        total = bumps + opened + moved + np.float32(1e-3)
        if body.shown.get(sign, 0) > 0:
            _change(slab, sign, found.window, change * reach / total)


def _liver_layers(body: Body, frame: Frame, window: Window, share: Array, shade: Array, lace: Array) -> Layers:
    yield Layer(window, share, "liver", shade)
    yield Layer(window, share * lace, "septa")
    # Vessels are drawn for the whole slab and kept where the liver is.
    inside = np.zeros(frame.still.shape, np.float32)
    inside[window] = share
    portal, veins = vessels.within_liver(body)
    tracts = [segment for segment in portal if segment[2] > 1.0]
    for segments, tissue, grow, kept in (
        (tracts, "stranded fat", 1.1, 0.45),
        (veins, "vein", 0.0, 1.0),
        (portal, "portal vein", 0.0, 1.0),
    ):
        for layer in vessels.tubes(frame, segments, tissue, grow, kept):
            yield replace(layer, amount=layer.amount * inside[layer.window])
