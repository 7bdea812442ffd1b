"""What a patient's anatomy is made of: size, organs' own variation, signs, and the frame a slab of it is seen in.

Organs are laid out in canonical millimetres: a cavity 132 mm wide and 90 mm deep to each side, z = 0 at the porta
hepatis. A patient's own size scales that frame; the depth of fat under the skin is added outside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from cirrnb.simulation.fields import Array, Noise, Points, Window

HALF_WIDTH = 132.0
HALF_DEPTH = 90.0
HIDDEN = dict.fromkeys(
    ("nodularity", "nodules_t1w", "nodules_t2w", "lobes", "spleen", "ascites", "portal", "fossa"), 0.0
)


@dataclass(frozen=True, eq=False)
class Body:
    """One patient, for ever the same for all scans. Compared by identity, so that what follows from it can be cached.

    Attributes
    ----------
    seed : of everything that is drawn inside the anatomy, so that scans and twins see the same noise.
    scale : of the cavity along x, y, z against the canonical one.
    fat : mean depth of fat under the skin, mm. wall : depth of the muscular wall, mm.
    own : each organ's own variation, standard normal numbers by name.
    shown : sign channels, 0 to 1.
    liver_size, spleen_size : knobs solved so that the volumes are those drawn; `plain_spleen` without the sign.
    """

    seed: int
    sex: str
    scale: tuple[float, float, float]
    fat: float
    wall: float
    own: dict[str, float]
    shown: dict[str, float] = field(default_factory=lambda: dict(HIDDEN))
    liver_size: float = 0.0
    spleen_size: float = 1.0
    plain_spleen: float = 1.0

    @cached_property
    def counterfactual(self) -> Body:
        """The same patient with no sign at all."""
        return replace(self, shown=dict(HIDDEN), spleen_size=self.plain_spleen)

    def without(self, sign: str) -> Body:
        """The same patient with one sign taken away."""
        names = ("nodules_t1w", "nodules_t2w") if sign == "nodules" else (sign,)
        size = self.plain_spleen if sign == "spleen" else self.spleen_size
        return replace(self, shown={**self.shown, **dict.fromkeys(names, 0.0)}, spleen_size=size)

    def random(self, name: str) -> np.random.Generator:
        """A generator of the organ's own: no organ's draws depend on another's."""
        return np.random.default_rng([self.seed, *name.encode()])

    def noise(self, name: str, *scale: float) -> Noise:
        """The organ's own smooth noise, the same wherever and however often it is asked for."""
        return Noise.draw(self.random(name), *scale)


VARIATIONS = (
    *("left lobe", "dome", "left height", "visceral", "stomach", "stomach place", "gallbladder", "spine", "kidney"),
    *("aorta", "cava", "colon", "fat shape", "spleen place", "muscle fat", "visceral fat", "fissure", "portal"),
)


def draw_body(random: np.random.Generator, seed: int, sex: str, age: float) -> Body:
    """A body of the given sex and age (older: more fat within the muscles), before signs and volumes are known."""
    male = sex == "male"
    variations = {name: float(np.clip(random.standard_normal(), -2.2, 2.2)) for name in VARIATIONS}
    variations["muscle fat"] += (age - 60) / 15
    width = float(131 if male else 121) + 8 * random.standard_normal()
    fat = float(np.clip(np.exp(np.log(15 if male else 20) + 0.42 * random.standard_normal()), 5, 48))
    width += 0.45 * float(np.clip(fat - 17, -12, 20))
    depth = 0.655 * width + 4.5 * random.standard_normal() + 0.25 * (fat - 17)
    height = (1.0 if male else 0.96) + 0.05 * random.standard_normal()
    scale = (float(width / HALF_WIDTH), float(depth / HALF_DEPTH), float(np.clip(height, 0.86, 1.14)))
    return Body(seed, sex, scale, fat, float(random.uniform(0.85, 1.15)), variations)


@dataclass(frozen=True)
class Layer:
    """A tissue laid over what is already there.

    Attributes
    ----------
    window : part of the slab.
    amount : share of each voxel it takes, 0 to 1; may broadcast along z.
    tissue : name in the table of tissues.
    shade : factor on the tissue's signal, one number or an array like `amount`.
    """

    window: Window
    amount: Array
    tissue: str
    shade: Array | float = 1.0


Layers = Iterator[Layer]


@dataclass(frozen=True)
class Frame:
    """A slab of points seen from the body: `still` for wall and spine, `moved` for organs that breathing shifts.

    Both are canonical; `width` is a voxel's width there, over which edges are blurred by partial volume.
    """

    still: Points
    moved: Points
    width: float

    @cached_property
    def inner(self) -> Array:
        """Distance to the cavity's wall of the points at rest."""
        return cavity(self.still)

    @cached_property
    def confines(self) -> Array:
        """Distance to what confines organs: the cavity's wall at rest, and moved."""
        return np.maximum(self.inner, cavity(self.moved))

    @property
    def everywhere(self) -> Window:
        x, y, z = self.still.shape
        return slice(0, x), slice(0, y), slice(0, z)

    def part(self, window: Window) -> Frame:
        def cut(points: Points) -> Points:
            first, second, third = (axis[piece] for axis, piece in zip(points.axes, window, strict=True))
            return Points((first, second, third))

        return Frame(cut(self.still), cut(self.moved), self.width)


def cavity(points: Points) -> Array:
    """Distance to the wall of the trunk's cavity, mm, negative inside; a superellipse that narrows up and down."""
    rise = ((points.z - 5) / 110) ** 2
    across = np.abs(points.x) / (HALF_WIDTH * (1 - 0.06 * rise))
    deep = np.abs(points.y) / (HALF_DEPTH * (1 - 0.05 * rise))
    # Flatter in front than an ellipse, and fuller towards the back of the flanks.
    across = across * (1 - 0.05 * np.clip(points.y / HALF_DEPTH, -1, 1))
    # The power 2.5 of both, and its root.
    reach = across * across * np.sqrt(across) + deep * deep * np.sqrt(deep)
    np.maximum(reach, np.float32(2e-8), out=reach)
    np.power(reach, np.float32(-0.4), out=reach)
    away = np.sqrt(points.x * points.x + points.y * points.y)
    reach *= -away
    reach += away
    return np.asarray(reach, dtype=np.float32)


def diaphragm(body: Body, points: Points) -> Array:
    """(x, y, 1) height of the diaphragm's underside in mm."""
    x, y = points.x, points.y
    top = 84 + 5 * body.own["dome"]
    behind, before = np.maximum(y + 18, 0) / 92, np.minimum(y + 18, 0) / 105
    slope = 68 * behind**2 + 40 * before**2
    right = top - 76 * (np.abs(x + 58) / 95) ** 2.3
    left = top - 12 - 72 * (np.abs(x - 58) / 88) ** 2.3
    # The two domes meet in the central tendon, on which the heart lies.
    overlap = np.maximum(26 - np.abs(right - left), 0)
    return (np.maximum(right, left) + overlap**2 / 104 - slope).astype(np.float32)
