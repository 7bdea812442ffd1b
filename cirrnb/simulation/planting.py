"""Signs of cirrhosis planted into a scan of a healthy liver: known strengths on real texture, with evidence maps.

Shapes change by warps, texture by a factor, fluid by filling. A planted scan is no patient's: it tests whether sign
outputs and maps follow what is there, within one person, where everything else stays as it was acquired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, map_coordinates

from cirrnb.data.errors import InputError
from cirrnb.simulation.signs import SIGNS

PLANTED = ("nodularity", "nodules", "lobes", "spleen", "ascites")
"""Signs that can be planted, in the order in which they are."""
SURFACE_DEPTH = 3.6
"""mm of displacement of a nodular surface at full strength."""
NODULE_WIDTH = (5.0, 9.0)
"""mm of nodules on the surface, and within the liver."""
RIGHT_SHRINKS, LEFT_GROWS = 0.28, 0.34
"""Relative change of the lobes' width at full strength, beside the falciform ligament."""
SPLEEN_GROWS = 1.25
"""Logarithm of the factor on the spleen's volume at full strength, as in simulated patients."""
FLUID_DEPTH = 20.0
"""mm of fluid to the right of the liver at full strength; less in front, behind and around the spleen."""
WALL = 22.0
"""mm from the skin to the peritoneal cavity, within which there is no fluid."""
VISIBLE_CHANGE = 0.06
"""Change relative to the liver's signal from which a voxel is evidence."""

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Planted:
    """A scan with planted signs; arrays as those that were handed in.

    Attributes
    ----------
    image : float32. liver, spleen : masks after the change.
    evidence : uint8, 0 where the scan is as it was, else the number of the sign in `SIGNS`, from 1.
    strengths : sign -> 0 to 1.
    """

    image: Array
    liver: Mask
    spleen: Mask
    evidence: NDArray[np.uint8]
    strengths: Mapping[str, float]


def plant(
    image: NDArray,
    liver: Mask,
    spleen: Mask,
    body: Mask,
    spacing: tuple[float, float, float],
    sequence: str,
    strengths: Mapping[str, float],
    seed: int = 0,
    others: Mask | None = None,
) -> Planted:
    """Plant signs into a scan.

    Parameters
    ----------
    image : (slices, rows, columns), slices to the head, rows to the back, columns to the patient's left; 0 or more.
    liver, spleen : masks of the same shape; an empty spleen is left alone. body : all that is within the skin, fat and
        bowel between the organs included.
    spacing : mm along slices, rows, columns.
    sequence : "T1W" or "T2W": fluid and septa are dark on one and bright on the other.
    strengths : sign -> 0 (as it is) to 1, any of `PLANTED`.
    seed : of the places of nodules; the same places at every strength.
    others : organs that no fluid replaces (kidneys, vessels, muscles, bones); None where nobody outlined them.

    Raises
    ------
    InputError
        If a sign or sequence is not known, a strength is not between 0 and 1, shapes differ, or there is no liver.
    """
    require_request(sequence, strengths)
    others = np.zeros(liver.shape, bool) if others is None else others
    _judge(image, liver, spleen, body, others)
    now = np.asarray(image, np.float32)
    unit = float(np.median(now[liver]))
    evidence = np.zeros(now.shape, np.uint8)
    for sign in PLANTED:
        strength = float(strengths.get(sign, 0.0))
        if strength <= 0:
            continue
        random = np.random.default_rng([seed, PLANTED.index(sign)])
        before = now
        if sign == "nodules":
            now = _textured(now, liver, spacing, sequence, strength, random)
        elif sign == "ascites":
            now = _with_fluid(now, liver, spleen, body & ~others, body, spacing, sequence, strength, random)
        else:
            shift = _displacement(sign, liver, spleen, spacing, strength, random)
            if shift is None:
                continue
            now = _warped(now, shift, spacing, order=1)
            liver, spleen = (_warped(mask.astype(np.float32), shift, spacing, 1) > 0.5 for mask in (liver, spleen))
        evidence[np.abs(now - before) > VISIBLE_CHANGE * abs(unit)] = SIGNS.index(sign) + 1
    return Planted(now, liver, spleen, evidence, {sign: float(strengths.get(sign, 0.0)) for sign in PLANTED})


def require_request(sequence: str, strengths: Mapping[str, float]) -> None:
    """Raise InputError for a sign or sequence that is not known, or a strength that is not between 0 and 1."""
    if unknown := [sign for sign in strengths if sign not in PLANTED]:
        raise InputError("signs", repr(unknown[0]), f"any of {', '.join(PLANTED)}", "Correct the name.")
    if wrong := [(sign, value) for sign, value in strengths.items() if not 0 <= value <= 1]:
        raise InputError(f"strength of {wrong[0][0]}", repr(wrong[0][1]), "a number from 0 to 1", "Correct it.")
    if sequence not in ("T1W", "T2W"):
        raise InputError("sequence", repr(sequence), "T1W or T2W", "Correct it.")


def _judge(image: NDArray, liver: Mask, spleen: Mask, body: Mask, others: Mask) -> None:
    if len({image.shape, liver.shape, spleen.shape, body.shape, others.shape}) > 1 or image.ndim != 3:
        raise InputError("masks", "arrays of other shapes than the image", "one grid", "Resample the masks.")
    if not liver.any():
        raise InputError("liver", "an empty mask", "a liver", "Segment the scan first.")


def _noise(random: np.random.Generator, shape: tuple[int, ...], spacing: tuple[float, ...], width: float) -> Array:
    """Smooth noise of unit variance whose humps are about `width` mm wide."""
    sigma = [width / 2.5 / step for step in spacing]
    rough = gaussian_filter(random.standard_normal(shape).astype(np.float32), sigma, mode="wrap")
    return np.asarray(rough / max(float(rough.std()), 1e-9), np.float32)


def _signed_distance(mask: Mask, spacing: tuple[float, float, float]) -> Array:
    """mm to the surface of a mask, negative inside."""
    outside = distance_transform_edt(~mask, sampling=spacing)
    return np.asarray(outside - distance_transform_edt(mask, sampling=spacing), np.float32)


def _displacement(
    sign: str,
    liver: Mask,
    spleen: Mask,
    spacing: tuple[float, float, float],
    strength: float,
    random: np.random.Generator,
) -> Array | None:
    """(3, slices, rows, columns) mm by which what lies at a place came from elsewhere; None where nothing moves."""
    places = np.meshgrid(
        *(np.arange(size, dtype=np.float32) * step for size, step in zip(liver.shape, spacing, strict=True)),
        indexing="ij",
    )
    if sign == "nodularity":
        away = _signed_distance(liver, spacing)
        slope = np.gradient(gaussian_filter(away, [2.0 / step for step in spacing]), *spacing)
        length = np.maximum(np.sqrt(sum(component**2 for component in slope)), 1e-6)
        near = np.exp(-((away / 7.0) ** 2))
        height = SURFACE_DEPTH * strength * near * _noise(random, liver.shape, spacing, NODULE_WIDTH[0])
        return np.stack([height * component / length for component in slope]).astype(np.float32)
    if sign == "spleen":
        if not spleen.any():
            return None
        grown = float(np.exp(SPLEEN_GROWS * strength / 3))
        middle = [float(place[spleen].mean()) for place in places]
        pull = np.stack([(place - mean) * (1 - 1 / grown) for place, mean in zip(places, middle, strict=True)])
        larger = _warped(spleen.astype(np.float32), pull.astype(np.float32), spacing, 1) > 0.5
        # What the larger spleen meets is pressed together within 30 mm.
        reach = np.exp(-((np.maximum(_signed_distance(larger, spacing), 0) / 30.0) ** 2))
        return np.asarray(pull * reach, np.float32)
    return _lobes(liver, spacing, strength, places)


def _lobes(liver: Mask, spacing: tuple[float, float, float], strength: float, places: Sequence[NDArray[Any]]) -> Array:
    """The right lobe drawn together towards the hilum and the left one spread away from it, along the columns."""
    x = places[2]
    across = x[liver]
    low, high = float(np.quantile(across, 0.02)), float(np.quantile(across, 0.98))
    hilum = low + 0.62 * (high - low)
    away = _signed_distance(liver, spacing)
    reach = np.where(away <= 0, 1.0, np.exp(-((away / 28.0) ** 2)))
    side = x - hilum
    right = side * (1 - 1 / (1 - RIGHT_SHRINKS * strength))
    left = side * (1 - 1 / (1 + LEFT_GROWS * strength))
    along = np.where(side < 0, right, left) * reach
    return np.stack([np.zeros_like(along), np.zeros_like(along), along]).astype(np.float32)


def _warped(values: Array, shift: Array, spacing: tuple[float, float, float], order: int) -> Array:
    """Values taken from where each place came from."""
    source = [
        index - part / step
        for index, part, step in zip(
            np.meshgrid(*(np.arange(size, dtype=np.float32) for size in values.shape), indexing="ij"),
            shift,
            spacing,
            strict=True,
        )
    ]
    return np.asarray(map_coordinates(values, source, order=order, mode="nearest"), np.float32)


def _textured(
    image: Array,
    liver: Mask,
    spacing: tuple[float, float, float],
    sequence: str,
    strength: float,
    random: np.random.Generator,
) -> Array:
    """Nodules between septa: on T1W darker septa, on T2W brighter ones around darker nodules."""
    noise = _noise(random, liver.shape, spacing, NODULE_WIDTH[1])
    septa = np.exp(-((noise / 0.35) ** 2))
    soft = gaussian_filter(liver.astype(np.float32), [0.8 * min(spacing) / step for step in spacing])
    change = -0.30 * septa + 0.08 if sequence == "T1W" else 0.45 * septa - 0.12
    return np.asarray(image * (1 + strength * change * soft), np.float32)


def _with_fluid(
    image: Array,
    liver: Mask,
    spleen: Mask,
    free: Mask,
    body: Mask,
    spacing: tuple[float, float, float],
    sequence: str,
    strength: float,
    random: np.random.Generator,
) -> Array:
    """Fluid around liver and spleen within the cavity, most of it to the right, with the noise of the scan.

    It takes the place of what is `free`, fat and bowel.
    """
    organs = liver | spleen
    inside = np.stack([binary_fill_holes(plane) for plane in body])
    deep = np.stack([distance_transform_edt(plane, sampling=spacing[1:]) for plane in inside]) > WALL
    away = distance_transform_edt(~organs, sampling=spacing)
    columns = np.arange(liver.shape[2], dtype=np.float32) * spacing[2]
    middle = float(columns[np.flatnonzero(inside.any(axis=(0, 1)))].mean()) if inside.any() else float(columns.mean())
    side = np.clip((middle - columns) / 110.0, -1, 1)  # 1 on the patient's right
    place = np.where(side > 0, 0.42 + 0.58 * side, 0.42)
    depth = FLUID_DEPTH * strength * place * np.clip(1 + 0.35 * _noise(random, liver.shape, spacing, 45.0), 0.2, 2)
    filled = deep & free & ~organs & (away < depth)
    share = gaussian_filter(filled.astype(np.float32), [0, 0.5, 0.5]) * ~organs
    level, spread = float(np.median(image[liver])), _grain(image, liver)
    bright = float(np.quantile(image[inside], 0.985)) if inside.any() else level
    signal = max(bright, 1.8 * level) if sequence == "T2W" else 0.35 * level
    fluid = signal + spread * random.standard_normal(image.shape).astype(np.float32)
    return np.asarray(image * (1 - share) + np.maximum(fluid, 0) * share, np.float32)


def _grain(image: Array, liver: Mask) -> float:
    """Standard deviation of the noise, from differences of neighbouring pixels within the liver."""
    apart = np.abs(np.diff(image, axis=2))[liver[:, :, 1:] & liver[:, :, :-1]]
    return float(np.median(apart) * 1.4826 / np.sqrt(2)) if apart.size else 0.0
