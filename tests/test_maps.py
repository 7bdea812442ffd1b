"""Contrasts that are neither T1W nor T2W: maps give back the property they map, and have no receive field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cirrnb.simulation.maps import MAPS, Map, acquire_ct, acquire_map, draw_ct_values, draw_map
from cirrnb.simulation.tissue import TISSUES

LOG_SPREAD = 0.5
"""Five times the tenth by which tissues vary."""


def mapped(made: Map, tissue: str) -> float:
    return float(made.combine(*(torch.tensor(signals[tissue]) for signals in made.signals)))


@pytest.mark.parametrize(
    ("kind", "tissue", "expected"),
    [
        ("ADC", "liver", (1.2, 1.2)),  # Taouli and Koh 2010, 0.001 mm2/s
        ("ADC", "csf", (3.0, 3.0)),
        ("ADC", "fat", (0.1, 0.1)),
        ("T1 map", "liver", TISSUES["liver"].t1),
        ("T1 map", "spleen", TISSUES["spleen"].t1),
        ("T2 map", "liver", TISSUES["liver"].t2),
        ("R2* map", "liver", tuple(2 / time for time in TISSUES["liver"].t2)),  # 1 / ms
    ],
)
def test_two_images_without_noise_give_the_property(kind: str, tissue: str, expected: tuple[float, float]) -> None:
    for seed in range(20):
        found = mapped(draw_map(np.random.default_rng(seed), kind), tissue)
        assert min(expected) * np.exp(-LOG_SPREAD) < found < max(expected) * np.exp(LOG_SPREAD)


def test_a_fat_fraction_is_one_of_fat_and_small_in_muscle() -> None:
    made = draw_map(np.random.default_rng(0), "fat fraction")
    assert mapped(made, "fat") == pytest.approx(1) and mapped(made, "muscle") == 0
    assert 0 <= mapped(made, "liver") <= 0.25


@pytest.mark.parametrize("kind", MAPS)
def test_acquired_maps_are_finite_between_0_and_1_and_flat(kind: str) -> None:
    """A block of liver, 3 x 24 x 26 pixels, nothing around it: no shading, whatever the noise."""
    label = torch.zeros(3, 32, 38, dtype=torch.uint8)
    label[:, 4:28, 6:32] = 1
    for seed in range(8):
        random = np.random.default_rng(seed)
        made = draw_map(random, kind)
        images = [torch.where(label > 0, signals["liver"], 0.0) for signals in made.signals]
        found = acquire_map(random, made, (images[0], images[1]), label, "axial")
        assert bool(torch.isfinite(found).all()) and float(found.min()) >= 0 and float(found.max()) <= 1
        left, right = found[:, 10:22, 10:18].median(), found[:, 10:22, 20:28].median()
        spread = found[:, 10:22, 10:28].std()
        assert abs(float(left - right)) <= 0.75 * float(spread) + 1e-3


def test_ct_has_air_darkest_fat_below_organs_and_bone_brightest() -> None:
    for seed in range(20):
        values = draw_ct_values(np.random.default_rng(seed))
        assert values["air"] < values["lung"] < values["fat"] < min(values["muscle"], values["liver"], values["spleen"])
        assert max(values, key=values.__getitem__) == "cortical bone"
        ordered = [values[name] for name in ("air", "fat", "liver", "cortical bone")]
        blocks = torch.tensor(ordered).repeat_interleave(400).reshape(1, 40, 40).float()
        found = acquire_ct(np.random.default_rng(seed), blocks, "axial")
        means = [float(part.mean()) for part in found.reshape(4, 400)]
        assert means == sorted(means) and min(means) >= 0
