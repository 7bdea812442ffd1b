"""Slabs of slices drawn from stored tissue shares: another contrast, acquisition and view at every visit.

After SynthSeg (Billot et al., Medical Image Analysis 2023;86:102789): labels cost nothing, and a network that has met
every contrast needs none in particular. Signals follow physics for part of the slabs and are random for the others:
networks trained on random contrasts alone need longer. What a scanner adds is drawn wider than any scanner adds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cirrnb.simulation.acquisition import acquire_slab, shading, smooth_field
from cirrnb.simulation.anatomy import SHARE_UNIT, TISSUE_NAMES, Anatomy
from cirrnb.simulation.contrast import OTHER_CONTRASTS, draw_random_signals, draw_signals, draw_usual_signals
from cirrnb.simulation.maps import CT, MAPS, acquire_ct, acquire_map, draw_ct_values, draw_map
from cirrnb.simulation.tissue_shares import LIVER, ORGANS

RENDERING_VERSION = 5
"""Raised by hand when slabs drawn from equal shares and seeds change."""

PIXEL = 3.0
"""mm in plane of a rendered slab."""
SIZE = (112, 128)
"""Rows and columns of a rendered slab."""
BODY = len(ORGANS)


@dataclass(frozen=True)
class Slab:
    """Slices of one subject.

    Attributes
    ----------
    image : (slices, rows, columns) float32, arbitrary units, 0 or more. label : the same shape, uint8.
    spacing : mm between slices.
    field : first and one past the last row, and the same of the columns, of what was acquired; nothing lies beyond.
    """

    image: Tensor
    label: Tensor
    spacing: float
    field: tuple[int, int, int, int] = (0, SIZE[0], 0, SIZE[1])


def render(anatomy: Anatomy, random: np.random.Generator, slices: int, contrast: str | None = None) -> Slab:
    """Draw a slab of `slices` slices of an anatomy; everything else about it is drawn from `random`.

    With a `contrast`, "T1W", "T2W" or one of `OTHER_CONTRASTS`, contrast and acquisition are usual ones of that kind.
    """
    if contrast in MAPS or contrast == CT:
        return _render_computed(anatomy, random, slices, contrast)
    usual = contrast is not None
    sequence = contrast or ""
    if contrast is None:
        signals, sequence = draw_signals(random)
    elif contrast in OTHER_CONTRASTS:
        signals = draw_random_signals(random)
    else:
        signals = draw_usual_signals(random, contrast)
    place = _Place.draw(anatomy, random, slices)
    image = place.look(random, signals, sequence).abs_()
    label = place.label()
    image = with_lesions(random, image, label, place.centres)
    if usual and random.random() < 0.4:  # without the correction that scanners offer, fat near a coil is brightest
        image = image * shading(random, image.shape) ** float(random.uniform(0.3, 1.0))
    image = acquire_slab(random, image, label, place.plane, usual=usual)
    return within(Slab(image, label, place.spacing), _field(random, place.plane))


def _render_computed(anatomy: Anatomy, random: np.random.Generator, slices: int, contrast: str) -> Slab:
    """A map, or a CT: no receive field, no lesions."""
    place = _Place.draw(anatomy, random, slices)
    label = place.label()
    if contrast == CT:
        image = acquire_ct(random, place.look(random, draw_ct_values(random), contrast), place.plane)
    else:
        made = draw_map(random, contrast)
        state = random.bit_generator.state
        images = []
        for signals in made.signals:
            random.bit_generator.state = state  # the same bowel in both images
            images.append(place.look(random, signals, contrast))
        image = acquire_map(random, made, (images[0], images[1]), label, place.plane)
    return within(Slab(image, label, place.spacing), _field(random, place.plane))


@dataclass(frozen=True)
class _Place:
    """Where an anatomy is looked at: plane, spacing of the slices in mm, and places of the pixels' sub-slices."""

    anatomy: Anatomy
    plane: str
    spacing: float
    where: Tensor
    centres: Tensor
    low: int
    high: int

    @classmethod
    def draw(cls, anatomy: Anatomy, random: np.random.Generator, slices: int) -> _Place:
        plane = str(random.choice(("axial", "coronal", "sagittal"), p=(0.8, 0.12, 0.08)))
        spacing = float(random.uniform(3.5, 9)) if random.random() < 0.85 else float(random.uniform(9, 14))
        if plane != "axial":
            spacing = float(random.uniform(3.5, 6))
        thickness = spacing * float(random.uniform(0.6, 1.0)) if plane == "axial" else 2.5
        subslices = int(np.clip(round(thickness / 2.5), 1, 4))
        where = _sampling(anatomy, random, slices, spacing, thickness, subslices)
        half = subslices // 2
        centres = where[:, half] if subslices % 2 else (where[:, half - 1] + where[:, half]) / 2
        return cls(anatomy, plane, spacing, where, centres, *planes_of(anatomy, where))

    def look(self, random: np.random.Generator, signals: dict[str, float], sequence: str) -> Tensor:
        """(slices, rows, columns) signals, averaged over each slice's thickness; bowel in half of the slabs."""
        planes = slice(self.low, self.high)
        clean = torch.from_numpy(self.anatomy.image(signals, sequence, planes))
        if random.random() < 0.5:
            clean = with_bowel(random, self.anatomy, clean, signals, planes)
        return sample_at(clean, self.anatomy, self.where, self.low, "bilinear").mean(dim=1)

    def label(self) -> Tensor:
        labels = torch.from_numpy(self.anatomy.label[self.low : self.high].astype(np.float32))
        return sample_at(labels, self.anatomy, self.centres[:, None], self.low, "nearest")[:, 0].to(torch.uint8)


def _field(random: np.random.Generator, plane: str) -> tuple[int, int, int, int]:
    """What of the rows and columns was acquired: coronal and sagittal volumes are often no deeper than the liver."""
    rows, columns = [0, SIZE[0]], [0, SIZE[1]]
    if random.random() < (0.12 if plane == "axial" else 0.6):
        bounds = columns if plane == "sagittal" or (plane == "axial" and random.random() < 0.4) else rows
        count = int(random.uniform(0.25, 0.75) * bounds[1])
        middle = int(bounds[1] * random.normal(0.47, 0.1))
        bounds[0] = int(np.clip(middle - count // 2, 0, bounds[1] - count))
        bounds[1] = bounds[0] + count
    return rows[0], rows[1], columns[0], columns[1]


def within(slab: Slab, field: tuple[int, int, int, int]) -> Slab:
    """The slab with nothing beyond a field of rows and columns."""
    top, bottom, left, right = field
    keep = torch.zeros(SIZE, dtype=torch.bool)
    keep[top:bottom, left:right] = True
    return Slab(slab.image * keep, slab.label * keep, slab.spacing, field)


def _sampling(
    anatomy: Anatomy, random: np.random.Generator, slices: int, spacing: float, thickness: float, subslices: int
) -> Tensor:
    """(slices, sub-slices, rows, columns, 3) places in mm (head, back, left) at which the anatomy is looked up."""
    rows, columns = SIZE
    shape = anatomy.label.shape
    corner = np.array(anatomy.origin)
    extent = np.array([n * s for n, s in zip(shape, anatomy.spacing, strict=True)])
    centre = corner + extent / 2
    liver = np.flatnonzero(np.isin(anatomy.label[:, ::4, ::4], LIVER).any(axis=(1, 2)))
    if random.random() < 0.78 and liver.size:
        first, last = corner[0] + anatomy.spacing[0] * liver[[0, -1]]
        centre[0] = random.uniform(first - 25, last + 25)
    else:
        centre[0] = random.uniform(corner[0], corner[0] + extent[0])
    zoom = float(random.uniform(0.82, 1.25)) * np.exp(0.06 * random.standard_normal(3))
    wide = max(extent[1] / (rows * PIXEL), extent[2] / (columns * PIXEL)) * float(random.uniform(0.9, 1.05))
    if (
        wide * zoom.max() > 1 and random.random() < 0.7
    ):  # a large trunk is made to fit, more or less; the others are cut
        zoom = zoom / min(1.2, wide * zoom.max())
    step = 1 / zoom
    centre[1:] += random.normal(0, 1, 2) * (8, 12)
    if random.random() < 0.15:
        centre[1:] += random.uniform(-60, 60, 2)
    tilt = np.deg2rad(random.normal(0, (3, 3, 6 if random.random() < 0.85 else 18)))
    z = (np.arange(slices) - (slices - 1) / 2) * spacing
    sub = (np.arange(subslices) - (subslices - 1) / 2) * thickness / subslices
    y, x = ((np.arange(n) - (n - 1) / 2) * PIXEL for n in SIZE)
    grid = torch.stack(
        torch.meshgrid(
            *(torch.from_numpy(v.astype(np.float32)) for v in ((z[:, None] + sub).ravel(), y, x)), indexing="ij"
        ),
        dim=-1,
    )
    grid = grid @ torch.from_numpy((rotation(tilt) * step).astype(np.float32))
    grid = grid + displacement(random, grid)
    grid += torch.from_numpy(centre.astype(np.float32))
    return grid.reshape(slices, subslices, rows, columns, 3)


def rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation about the three axes, row vectors from the right."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def with_bowel(
    random: np.random.Generator, anatomy: Anatomy, image: Tensor, signals: dict[str, float], planes: slice
) -> Tensor:
    """Bowel in the place of the fat between the organs, as in lean people: loops side by side, of any content.

    Loops are where one of several smooth random fields is the largest; where two are nearly equal lies a wall or fat.
    """
    fat = TISSUE_NAMES.index("stranded fat")
    tissue, share = anatomy.tissue[planes], anatomy.share[planes]
    amount = (share * (tissue == fat)).sum(axis=-1, dtype=np.float32) / np.float32(SHARE_UNIT)
    amount *= anatomy.label[planes] == BODY
    loops = ("bowel content", "stomach content", "stool", "hollow wall", "fat", "air")
    size = float(random.uniform(18, 55))
    extents = [count * step for count, step in zip(image.shape, anatomy.spacing, strict=True)]
    cells = [max(2, round(extent / size) + 1) for extent in extents]
    fields = [smooth_field(random, image.shape, (cells[0], cells[1], cells[2])) for _ in range(4)]
    table = [abs(float(np.float32(signals[str(random.choice(loops))]))) for _ in range(4)]
    first, second, content = _largest_of_four(fields, table)
    if random.random() < 0.6:  # stool and mixed contents: mottled, as coarse as a knuckle or finer
        fine = [max(2, round(extent / float(random.uniform(5, 14))) + 1) for extent in extents]
        mottle = float(random.uniform(0.1, 0.5)) * smooth_field(random, image.shape, (fine[0], fine[1], fine[2]))
        content = content * (1 + mottle).clamp_min(0.1)
    wall = signals["hollow wall" if random.random() < 0.5 else "fat"]
    content = torch.where(first - second < float(random.uniform(0.02, 0.3)), torch.full_like(content, wall), content)
    # Some fat stays: towards the back more of it, as around the kidneys.
    keep = (smooth_field(random, image.shape, (2, 3, 3)) > float(random.uniform(0.3, 2))).float()
    return image + torch.from_numpy(amount) * (1 - keep) * (content - signals["stranded fat"])


def _largest_of_four(fields: list[Tensor], values: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """The largest of four fields at each place, the second largest, and the value of the field that is the largest.

    By pairs: five times as fast as `topk` over the first axis.
    """
    left, right = fields[0] >= fields[1], fields[2] >= fields[3]
    above, below = torch.maximum(fields[0], fields[1]), torch.maximum(fields[2], fields[3])
    others = torch.minimum(fields[0], fields[1]), torch.minimum(fields[2], fields[3])
    upper = above >= below
    second = torch.maximum(torch.minimum(above, below), torch.where(upper, *others))
    a, b, c, d = (torch.tensor(value, dtype=torch.float32) for value in values)
    content = torch.where(upper, torch.where(left, a, b), torch.where(right, c, d))
    return torch.maximum(above, below), second, content


def displacement(random: np.random.Generator, grid: Tensor) -> Tensor:
    """Smooth displacement in mm: humps of 30 to 90 mm by up to 9 mm, and of more than 110 mm by up to 20 mm.

    The broad ones move organs against each other, so that no organ is known by its place alone.
    """
    total = torch.zeros_like(grid)
    length = float(grid[-1, 0, 0, 0] - grid[0, 0, 0, 0])
    for most, low, high, reach in ((9.0, 4, 11, 50), (20.0, 3, 5, 120)):
        amount, across = float(random.uniform(0, most)), int(random.integers(low, high))
        if random.random() < 0.2:
            continue
        depth = max(2, round(length / reach) + 2)
        coarse = torch.from_numpy(random.standard_normal((1, 3, depth, across, across + 1)).astype(np.float32))
        fine = functional.interpolate(amount * coarse, size=grid.shape[:3], mode="trilinear", align_corners=True)
        total = total + fine[0].permute(1, 2, 3, 0)
    return total


def planes_of(anatomy: Anatomy, where: Tensor) -> tuple[int, int]:
    """First and one past the last plane of the anatomy that some places touch."""
    z = (where[..., 0] - anatomy.origin[0]) / anatomy.spacing[0]
    count = anatomy.label.shape[0]
    low = int(np.clip(np.floor(float(z.min())) - 1, 0, count - 2))
    return low, int(np.clip(np.ceil(float(z.max())) + 2, low + 2, count))


def sample_at(volume: Tensor, anatomy: Anatomy, where: Tensor, low: int, mode: str) -> Tensor:
    """Values of planes from `low` on at places in mm, 0 outside; the places' shape without the last axis."""
    sizes = torch.tensor(volume.shape, dtype=torch.float32)
    origin = torch.tensor(anatomy.origin) + torch.tensor([low * anatomy.spacing[0], 0.0, 0.0])
    index = (where - origin) / torch.tensor(anatomy.spacing, dtype=torch.float32)
    place = (2 * index + 1) / sizes - 1
    flat = place.reshape(1, -1, *place.shape[-3:]).flip(-1).float()
    values = functional.grid_sample(volume[None, None], flat, mode=mode, padding_mode="zeros", align_corners=False)
    return values.reshape(where.shape[:-1])


def with_lesions(random: np.random.Generator, image: Tensor, label: Tensor, centres: Tensor) -> Tensor:
    """Cysts and tumours in the liver, whose labels stay liver; rarely the void of a metal clip."""
    inside = (label >= LIVER[0]) & (label <= LIVER[-1])
    if random.random() < 0.25 and bool(inside.any()):
        places = torch.nonzero(inside)
        for _ in range(int(random.integers(1, 6))):
            at = centres[tuple(places[int(random.integers(len(places)))])]
            radius = float(np.exp(random.uniform(np.log(3), np.log(28))))
            lesion = ((centres - at).square().sum(-1) < radius**2) & inside
            image = torch.where(lesion, image * float(np.exp(random.uniform(np.log(0.2), np.log(4)))), image)
    if random.random() < 0.03:
        at = centres[int(random.integers(len(centres))), int(random.integers(20, 90)), int(random.integers(20, 100))]
        radius = float(random.uniform(8, 45))
        image = torch.where((centres - at).square().sum(-1) < radius**2, torch.zeros_like(image), image)
    return image


def render_other(random: np.random.Generator, slices: int) -> Slab:
    """A slab without an abdomen: head, neck, legs, breast or phantom, as ellipses within ellipses; all of it "body"."""
    rows, columns = SIZE
    y, x = torch.meshgrid(torch.arange(rows) - rows / 2.0, torch.arange(columns) - columns / 2.0, indexing="ij")
    image, inside = torch.zeros(rows, columns), torch.zeros(rows, columns, dtype=torch.bool)
    wobble = smooth_field(random, torch.Size((1, rows, columns)), (1, 7, 7))[0] * 0.06
    parts = int(random.choice((1, 1, 1, 2, 2, 3)))
    for part in range(parts):
        middle = np.array(
            [random.normal(0, 6), random.normal(0, 6) + (part - (parts - 1) / 2) * random.uniform(30, 46)]
        )
        outer = random.uniform(10, 22, 2) if parts > 1 else random.uniform(14, 46, 2)
        for depth in range(int(random.integers(2, 8))):
            within = depth > 1 and random.random() < 0.7
            centre = middle + (random.uniform(-0.5, 0.5, 2) * outer if within else 0)
            radii = outer * (random.uniform(0.08, 0.4) if within else 1 - 0.12 * depth)
            ellipse = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1 + 2 * wobble
            ellipse = ellipse & (inside if depth else True)
            image = torch.where(ellipse, torch.full_like(image, float(random.uniform(0.02, 1))), image)
            inside = inside | ellipse
    image = image.repeat(slices, 1, 1)
    label = (inside * BODY).to(torch.uint8).repeat(slices, 1, 1)
    return Slab(acquire_slab(random, image, label), label, float(random.uniform(3.5, 9)))
