"""One-sign lessons: what differs is the sign and nothing else, and organs lie where anatomy puts them."""

from __future__ import annotations

import numpy as np
import pytest

from cirrnb.data.errors import InputError
from cirrnb.explanation.sign_pair import anatomy, sign_pair
from cirrnb.simulation.signs import SIGNS


@pytest.mark.parametrize("sign", SIGNS)
def test_a_pair_differs_where_the_sign_is_and_nowhere_else(sign):
    for sequence in ("T1W", "T2W"):
        pair = sign_pair(sign, sequence)
        assert pair.shown.shape == pair.without.shape == pair.changed.shape
        assert pair.changed.sum() * np.prod(pair.spacing) > 60, "mm², to be seen at all"
        apart = np.abs(pair.shown - pair.without)
        assert apart[pair.changed].mean() > 0.05
        # The scanner blurs over a pixel or two, and fluid pushes aside what lies beside it.
        grown = np.pad(pair.changed, 4)
        near = sum(np.roll(grown, (down, across), (0, 1)) for down in range(-4, 5) for across in range(-4, 5)) > 0
        assert np.median(apart[~near[4:-4, 4:-4]]) < 0.01


def test_without_strength_there_is_no_sign():
    pair = sign_pair("ascites", "T2W", strength=0.0)
    assert not pair.changed.any() and np.array_equal(pair.shown, pair.without)


def test_fluid_is_dark_on_t1w_and_bright_on_t2w():
    dark, bright = sign_pair("ascites", "T1W"), sign_pair("ascites", "T2W")
    liver = np.median(dark.without[dark.without > 0.5])
    assert np.median(dark.shown[dark.changed]) < 0.5 * liver
    assert np.median(bright.shown[bright.changed]) > 0.95


@pytest.mark.parametrize("sequence", ["T1W", "T2W"])
def test_organs_are_named_where_they_lie(sequence):
    told = anatomy(sequence)
    rows, columns = told.image.shape
    share = {name: (row / rows, column / columns) for name, (row, column) in told.places.items()}
    assert {"liver", "spleen", "aorta", "spine", "fat", "muscle"} <= set(share)
    # The patient's right is on the left of the picture, the front on top.
    assert share["liver"][1] < 0.45 < share["spine"][1] < 0.6 < share["spleen"][1]
    assert share["aorta"][0] < share["spine"][0] < share["spinal fluid"][0]
    level = {name: told.image[round(row), round(column)] for name, (row, column) in told.places.items()}
    if sequence == "T1W":
        assert level["aorta"] > level["liver"] > level["spinal fluid"]
    else:
        assert level["spinal fluid"] > level["spleen"] > level["liver"] > level["aorta"]


@pytest.mark.parametrize("wrong", [("cough", "T1W", 0.5), ("ascites", "CT", 0.5), ("ascites", "T1W", 1.5)])
def test_what_does_not_exist_is_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        sign_pair(*wrong)
