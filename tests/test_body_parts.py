"""Other parts of a body: repeatable, without organs, each of its own size, in a plane that a header may get wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cirrnb.simulation.body_parts import PARTS, render_part
from cirrnb.simulation.fields import Points
from cirrnb.simulation.rendering import BODY, PIXEL, SIZE
from cirrnb.simulation.tissue import TISSUES


@pytest.mark.parametrize("name", PARTS)
def test_a_part_has_no_organ_and_depends_on_its_random_numbers_alone(name: str) -> None:
    shown = 0
    for seed in range(6):
        slab, again = (render_part(np.random.default_rng(seed), 3, name) for _ in range(2))
        assert torch.equal(slab.image, again.image) and torch.equal(slab.label, again.label)
        assert slab.image.shape == slab.label.shape == (3, *SIZE) and 3.5 <= slab.spacing <= 9
        assert torch.isfinite(slab.image).all() and float(slab.image.min()) >= 0
        assert set(slab.label.unique().tolist()) <= {0, BODY}
        shown += int((slab.label > 0).sum()) > 300
    assert shown >= 5
    assert not torch.equal(slab.image, render_part(np.random.default_rng(6), 3, name).image)


def test_planes_and_sizes_vary_as_headers_that_are_wrong_make_them() -> None:
    """Area of the axial cross-section: of most necks that of a neck, of some, whose voxels are wrong, much larger."""
    areas = []
    for seed in range(40):
        label = render_part(np.random.default_rng(seed), 2, "neck").label
        areas.append(float((label[0] > 0).sum()) * PIXEL**2 / 100)
    assert 90 < np.median(areas) < 260 and np.mean(np.array(areas) > 350) > 0.05


def middle(name: str) -> Points:
    """One axial slice in the middle of a part, 2 mm apart."""
    low, high = PARTS[name].reach
    axis = np.arange(-240, 241, 2, dtype=np.float32)
    return Points((axis, axis, np.array([(low + high) / 2], np.float32)))


def test_a_neck_has_an_airway_in_front_of_its_spine_and_thighs_have_two_bones() -> None:
    neck = list(PARTS["neck"].layers(np.random.default_rng(1), middle("neck")))
    places = {tissue: np.argwhere(distance[..., 0] < 0).mean(axis=0) for tissue, distance in neck if tissue == "air"}
    cord = next(np.argwhere(distance[..., 0] < 0).mean(axis=0) for tissue, distance in neck if tissue == "cord")
    assert places["air"][1] < cord[1] - 10 and abs(places["air"][0] - cord[0]) < 3
    for seed in range(8):
        layers = list(PARTS["thighs"].layers(np.random.default_rng(seed), middle("thighs")))
        marrow = [distance for tissue, distance in layers if tissue == "marrow"]
        assert len(marrow) in (1, 2) and all((distance < 0).any() for distance in marrow)


@pytest.mark.parametrize("name", PARTS)
def test_every_layer_is_a_tissue_that_has_a_signal(name: str) -> None:
    for seed in range(5):
        for tissue, distance in PARTS[name].layers(np.random.default_rng(seed), middle(name)):
            assert tissue in TISSUES and distance.shape == middle(name).shape
