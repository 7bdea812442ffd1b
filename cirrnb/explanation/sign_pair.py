"""A sign by itself: one slice of a simulated patient without any sign, and the same slice with one, for teaching.

The two differ by the sign and by nothing else: the same body, breath, scanner, shading and noise. Slices are as fine as
those of the scale "full", but one at a time, so that a lesson does not wait for whole scans.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, median_filter

from cirrnb.data.errors import InputError
from cirrnb.data.sequences import T1W_T2W
from cirrnb.simulation.body import HIDDEN, Body
from cirrnb.simulation.organs import solve_spleen, spleen_volume
from cirrnb.simulation.patients import Plan, draw_patient
from cirrnb.simulation.sampling import Clean, Sampling, nearest, sample, to_matrix
from cirrnb.simulation.scans import draw_sampling, evidence
from cirrnb.simulation.signal import Protocol, acquire, draw_protocol, receive_field, tissue_signals
from cirrnb.simulation.signs import SIGNS

SEED = 47
"""Of the body and of the two scans of the lesson: somebody of middling build, all organs well apart."""

STRENGTH = 0.9
"""How strongly the sign shows in a lesson, 0 to 1: clearly, since one has to have seen it once."""

HEIGHTS = {
    "nodularity": 8.0,
    "nodules": 8.0,
    "lobes": 16.0,
    "spleen": 12.0,
    "ascites": 4.0,
    "portal": -6.0,
    "fossa": -36.0,
}
"""mm above the porta hepatis, in the canonical body, of the slice that shows a sign best."""

WHITE = {"T1W": 1.6, "T2W": 3.2}
"""Signal that is shown white, in livers' signals."""

SUPPRESSED = 0.2
"""Share of the fat's signal that suppression leaves: on T1W as a rule, on T2W where fluid is sought."""

COARSE = 2.5
"""mm, pixels in which organs are sought."""

AIR = 0.25
"""Share of the liver's signal below which a pixel is air around the body."""

GROWTH = 1.25
"""Logarithm by which the simulator's spleen grows from no sign to the strongest."""


@dataclass(frozen=True, eq=False)
class SignPair:
    """A slice with and without a sign, rows from front to back, columns from the patient's right to the left.

    Attributes
    ----------
    sign, sequence : what and where.
    without, shown : (rows, columns) float32, 0 black to 1 white.
    changed : (rows, columns) bool, where the sign changed what is seen.
    spacing : mm between rows and between columns.
    """

    sign: str
    sequence: str
    without: NDArray[np.float32]
    shown: NDArray[np.float32]
    changed: NDArray[np.bool_]
    spacing: tuple[float, float]


def sign_pair(sign: str, sequence: str, strength: float = STRENGTH, seed: int = SEED) -> SignPair:
    """The lesson's slice for a sign of `cirrnb.simulation.signs.SIGNS`, as "T1W" or "T2W" sees it.

    Raises InputError for another sign or sequence, or a strength outside 0 to 1.
    """
    _judge(sign, sequence, strength)
    bright = (
        sequence == "T2W" and sign != "ascites"
    )  # beside bright fat fluid is lost, beside dark fat the liver's edge
    scan = _scan(sequence, HEIGHTS[sign], 1.0 if bright else SUPPRESSED, seed)
    clean = sample(_with(scan.body, sign, strength), scan.sampling, scan.signals, sequence)
    shown, without = scan.finish(clean, clean.signal), scan.finish(clean, clean.counterfactual)
    labels = nearest(evidence(clean, scan.signals["liver"]), scan.sampling.matrix)
    frame, white = scan.frame(without), scan.white(without, clean)
    number = SIGNS.index(sign) + 1
    changed = np.equal(labels[:, :, 0].T, number)
    return SignPair(
        sign,
        sequence,
        np.clip(without[frame] / white, 0, 1),
        np.clip(shown[frame] / white, 0, 1),
        changed[frame],
        scan.spacing,
    )


def vessels_on_t2w(height: float = -6.0, seed: int = SEED) -> dict[str, NDArray[np.float32]]:
    """The lesson's body on T2W as vessels and fat may look, by name: "fast" flow, "slow" flow, and "slow-suppressed",
    where fat is suppressed too. (rows, columns) float32, 0 to 1; they differ by the protocol alone.
    """
    made = {}
    for name, fat, kept in (("fast", 1.0, 0.06), ("slow", 1.0, 0.45), ("slow-suppressed", 0.1, 0.45)):
        usual = _scan("T2W", height, fat, seed)
        protocol = replace(usual.protocol, inflow=(usual.protocol.inflow[0], kept))
        scan = replace(usual, protocol=protocol, signals=tissue_signals(protocol))
        clean = sample(scan.body, scan.sampling, scan.signals, "T2W", with_counterfactual=False)
        image = scan.finish(clean, clean.signal)
        made[name] = np.clip(image[scan.frame(image)] / scan.white(image, clean), 0, 1)
    return made


TISSUES = {
    "liver": ("liver",),
    "spleen": ("spleen",),
    "stomach": ("stomach content",),
    "kidney": ("renal cortex", "renal medulla"),
    "gallbladder": ("bile",),
    "aorta": ("artery",),
    "vena cava": ("vein",),
    "spine": ("marrow", "disc"),
    "spinal fluid": ("csf",),
    "muscle": ("muscle",),
    "fat": ("fat",),
}
"""Names for a beginner, and the tissues of the simulator that they stand for."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A slice without disease and where its organs lie.

    Attributes
    ----------
    image : (rows, columns) float32, 0 to 1. spacing : mm between rows and between columns.
    places : name -> (row, column) of the middle of the organ's widest part.
    """

    sequence: str
    image: NDArray[np.float32]
    spacing: tuple[float, float]
    places: dict[str, tuple[float, float]]


def anatomy(sequence: str, height: float = -22.0, seed: int = SEED, least: float = 40.0) -> Anatomy:
    """The lesson's body at a height in mm, fat suppressed on T1W and bright on T2W.

    Named are the organs that cover at least `least` mm² there.

    Raises InputError for another sequence than "T1W" and "T2W".
    """
    _judge(SIGNS[0], sequence, 1.0)
    scan = _scan(sequence, height, 1.0 if sequence == "T2W" else SUPPRESSED, seed)
    clean = sample(scan.body, scan.sampling, scan.signals, sequence, with_counterfactual=False)
    image = scan.finish(clean, clean.signal)
    frame = scan.frame(image)
    step = max(1, round(COARSE / scan.spacing[0]))
    rough = scan.coarser(step)
    places = {}
    for name, tissues in TISSUES.items():
        # The scene painted with one tissue alone says how much of each pixel is that tissue.
        alone = {tissue: float(tissue in tissues) for tissue in scan.signals}
        share = sample(scan.body, rough, alone, sequence, with_counterfactual=False).signal[:, :, 0].T
        part = _widest(share > 0.5, least / np.prod(rough.spacing[:2]))
        if part is not None:
            row, column = ((place + 0.5) * step - side.start for place, side in zip(part, frame, strict=True))
            places[name] = (row, column)
    shown = np.clip(image[frame] / scan.white(image, clean), 0, 1)
    return Anatomy(sequence, shown, scan.spacing, places)


def _widest(inside: NDArray[np.bool_], least: float) -> tuple[int, int] | None:
    if inside.sum() < least:
        return None
    depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column)


@dataclass(frozen=True, eq=False)
class _Scan:
    """One slice's body, geometry and scanner, from which it is made again and again alike."""

    body: Body
    sampling: Sampling
    protocol: Protocol
    signals: dict[str, float]
    noise: int

    def finish(self, clean: Clean, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, columns) what the scanner makes of a clean slice, in units of signal."""
        random = np.random.default_rng(self.noise)
        shading = receive_field(random, self.protocol, clean.points, (0.0, 10.0))
        image = acquire(random, self.protocol, signal * shading, self.signals["liver"])
        return np.maximum(to_matrix(image, self.sampling.matrix)[:, :, 0].T, 0)

    @property
    def spacing(self) -> tuple[float, float]:
        """mm between rows and between columns."""
        return self.sampling.spacing[1], self.sampling.spacing[0]

    def coarser(self, step: int) -> Sampling:
        """The same slice in pixels `step` times as wide."""
        width, depth = (self.sampling.matrix[axis] // step for axis in (0, 1))
        x, y, z = self.sampling.spacing
        origin = self.sampling.origin
        moved = (origin[0] + x * (step - 1) / 2, origin[1] + y * (step - 1) / 2, origin[2])
        spacing = (x * step, y * step, z)
        return replace(self.sampling, matrix=(width, depth, 1), acquired=(width, depth), spacing=spacing, origin=moved)

    def frame(self, image: NDArray[np.float32]) -> tuple[slice, slice]:
        """Rows and columns that hold the body, with 6 mm of air around it."""
        inside = median_filter(image, 5) > AIR * self.signals["liver"]
        sides = []
        for axis, step in enumerate(self.spacing):
            filled, air = np.flatnonzero(inside.any(axis=1 - axis)), round(6 / step)
            sides.append(slice(max(0, int(filled[0]) - air), int(filled[-1]) + air + 1))
        return sides[0], sides[1]

    def white(self, image: NDArray[np.float32], clean: Clean) -> float:
        """The signal that is shown white: so many times the liver's, which is what is looked at."""
        liver = to_matrix(clean.liver, self.sampling.matrix)[:, :, 0].T > 0.9
        return WHITE[self.protocol.sequence] * float(np.median(image[liver]))


@cache
def _body(seed: int) -> Body:
    return draw_patient(Plan(0, "lesson", "healthy", {}), seed).body


@cache
def _scan(sequence: str, height: float, fat: float, seed: int) -> _Scan:
    body = _body(seed)
    random = np.random.default_rng([seed, 5, T1W_T2W.index(sequence)])
    protocol = replace(draw_protocol(random, sequence, "3 T"), ghost=0.0, noise=0.035, fat_kept=fat)
    whole = draw_sampling(random, body, sequence, "full")
    middle = (height * body.scale[2] + whole.breath[1],)
    slab = replace(whole, matrix=(*whole.matrix[:2], 1), origin=(*whole.origin[:2], *middle))
    return _Scan(body, slab, protocol, tissue_signals(protocol), int(random.integers(2**62)))


def _with(body: Body, sign: str, strength: float) -> Body:
    names = ("nodules_t1w", "nodules_t2w") if sign == "nodules" else (sign,)
    shown = replace(body, shown={**HIDDEN, **dict.fromkeys(names, strength)})
    if sign != "spleen":
        return shown
    grown = spleen_volume(body) * float(np.exp(GROWTH * strength))
    return replace(solve_spleen(shown, grown), plain_spleen=body.spleen_size)


def _judge(sign: str, sequence: str, strength: float) -> None:
    for where, given, known in (("sign", sign, SIGNS), ("sequence", sequence, T1W_T2W)):
        if given not in known:
            raise InputError(where, repr(given), f"one of {known}", "Choose one of these.")
    if not 0 <= strength <= 1:
        raise InputError(
            "strength", f"{strength:g}", "a number from 0 (absent) to 1 (as strong as it gets)", "Mend it."
        )
