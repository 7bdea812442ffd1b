"""A scan unlike those in training is told; one like them seldom is."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
from toy_patients import LARGE, toy_cohort, write_scan

from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.prepared import PreparedScan
from cirrnb.model.out_of_distribution import (
    LEAST,
    OutOfDistribution,
    describe_image,
    fit_out_of_distribution,
    read_out_of_distribution,
)


def bags(root, count: int, seed: int) -> list[Bag]:
    """Patients of 64 x 72 pixels: T1W with a bright organ on the left of the picture, T2W with a dark one."""
    random = np.random.default_rng(seed)
    made = []
    for bag in toy_cohort(root, {"train": count}, settings=LARGE).bags():
        scans = {}
        for name, scan in bag.scans.items():
            image = random.normal(random.uniform(0.25, 0.35), 0.05, scan.grid.shape)
            place = np.s_[:, 10 + random.integers(6) : 40, 8 + random.integers(6) : 36]
            image[place] += random.uniform(0.3, 0.4) * (1 if name == "T1W" else -0.6)
            folder = root / f"{seed}-{bag.patient}-{name}"
            scans[name] = write_scan(folder, scan.scan, image.astype(np.float16), LARGE)
        made.append(Bag(scans))
    return made


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> OutOfDistribution:
    return fit_out_of_distribution(bags(tmp_path_factory.mktemp("known"), 60, 1))


@pytest.fixture(scope="module")
def new(tmp_path_factory) -> list[Bag]:
    return bags(tmp_path_factory.mktemp("new"), 60, 2)


class Drawn(PreparedScan):
    """A prepared scan whose image is given and lies in no folder."""

    image = None


def changed(scan: PreparedScan, image: np.ndarray) -> PreparedScan:
    other = Drawn(*(getattr(scan, one.name) for one in fields(scan)))
    other.__dict__["image"] = image
    return other


def test_new_patients_of_the_same_kind_are_seldom_told(known, new):
    told = sum(bool(known.remarks({name: scan})) for bag in new for name, scan in bag.scans.items())
    assert told <= 6  # of 120; 1 in 100 is meant


def test_exchanged_sequences_are_told(known, new):
    for bag in new[:20]:
        said = known.remarks({"T1W": bag.scans["T2W"], "T2W": bag.scans["T1W"]})
        assert len(said) == 2 and "exchanged" in said[0] and "T2W" in said[0]
        [alone] = known.remarks({"T1W": bag.scans["T2W"]})
        assert alone.endswith("T2W: is it T2W?"), "there is nothing that it could be exchanged with"


@pytest.mark.parametrize("change", [lambda i: 1 - i, lambda i: i[:, :, ::-1], lambda i: np.roll(i, 30, axis=1)])
def test_another_contrast_side_or_organ_is_told(known, new, change):
    for bag in new[:20]:
        assert known.remarks({"T1W": changed(bag.scans["T1W"], change(np.asarray(bag.scans["T1W"].image)))})


def test_a_description_does_not_depend_on_the_number_of_slices(new):
    scan = new[0].scans["T1W"]
    twice = changed(scan, np.repeat(np.asarray(scan.image), 2, axis=0))
    np.testing.assert_allclose(describe_image(twice), describe_image(scan), atol=0.02)


def test_few_training_scans_say_nothing(tmp_path):
    assert not fit_out_of_distribution(bags(tmp_path, LEAST - 1, 3)).usual


def test_it_comes_back_from_a_run_folder(known, new, tmp_path):
    assert read_out_of_distribution(tmp_path) is None
    known.save(tmp_path)
    back = read_out_of_distribution(tmp_path)
    inverted = changed(new[0].scans["T2W"], 1 - np.asarray(new[0].scans["T2W"].image))
    assert back is not None and back.remarks({"T2W": inverted}) == known.remarks({"T2W": inverted}) != []


@pytest.mark.parametrize("damage", [{"format": 9}, {"usual": {"T1W": {"mean": [1], "precision": [[1]], "limit": 1}}}])
def test_a_damaged_file_is_refused(known, tmp_path, damage):
    path = known.save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(InputError, match=r"out_of_distribution\.json"):
        read_out_of_distribution(tmp_path)
