"""Texture of the liver, and signs whose strength is measured by it."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from cirrnb.data.errors import InputError
from cirrnb.measure.liver_texture import liver_texture, texture_names
from cirrnb.model.measured_signs import MEASURED_SIGNS, fit_measured_signs, read_measured_signs

SHAPE = (3, 60, 70)


def liver_scan(strength, seed, gain=1.0, shade=0.0):
    """A liver of two tissues, noise, and bright spots 6 mm wide of the given strength."""
    random = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, bool)
    mask[:, 8:52, 8:62] = True
    spots = np.stack([gaussian_filter((random.random(SHAPE[1:]) > 0.985).astype(float), 1.5) for _ in range(SHAPE[0])])
    image = 0.5 + strength * 2.0 * spots + random.normal(0, 0.03, SHAPE)
    image *= gain * (1 + shade * np.linspace(-1, 1, SHAPE[2]))
    return SimpleNamespace(image=image.astype(np.float16), mask=mask, settings=SimpleNamespace(spacing=2.0))


@pytest.fixture(scope="module")
def patients():
    strengths = np.random.default_rng(0).random((90, 2))
    scans = [
        {"T1W": liver_scan(one, number), "T2W": liver_scan(other, 1000 + number)}
        for number, (one, other) in enumerate(strengths)
    ]
    return scans, pd.DataFrame(strengths, columns=["nodules_t1w", "nodules_t2w"])


@pytest.fixture(scope="module")
def fitted(patients):
    scans, truth = patients
    return fit_measured_signs(scans[:70], truth[:70], {"nodules_t1w": "T1W", "nodules_t2w": "T2W"})


def test_strengths_follow_the_texture_of_their_own_sequence(fitted, patients):
    scans, truth = patients
    told = pd.DataFrame([fitted.strengths(one) for one in scans[70:]])
    assert told.notna().mean().min() > 0.7
    assert ((told >= 0) & (told <= 1) | told.isna()).all(axis=None)
    for name in truth:
        assert spearmanr(told[name], truth[name][70:], nan_policy="omit").statistic > 0.8
    assert abs(spearmanr(told["nodules_t1w"], truth["nodules_t2w"][70:], nan_policy="omit").statistic) < 0.5
    assert fitted.strengths({"T1W": scans[0]["T1W"]}).keys() == {"nodules_t1w"}


def test_gain_and_shading_leave_the_texture_alone():
    plain, changed = (liver_texture(liver_scan(0.6, 3, **how)) for how in ({}, {"gain": 1.6, "shade": 0.1}))
    assert tuple(plain) == texture_names()
    assert np.allclose(list(plain.values()), list(changed.values()), atol=0.25)


def test_without_enough_liver_nothing_is_measured(fitted):
    scan = liver_scan(0.5, 1)
    assert liver_texture(SimpleNamespace(**{**vars(scan), "mask": None})) == {}
    small = np.zeros(SHAPE, bool)
    small[:, 20:30, 20:30] = True
    assert liver_texture(SimpleNamespace(**{**vars(scan), "mask": small})) == {}
    assert fitted.strengths({"T1W": SimpleNamespace(**{**vars(scan), "mask": small})}) == {}
    with pytest.raises(InputError, match="measured liver"):
        fit_measured_signs([{"T1W": scan}] * 10, pd.DataFrame({"nodules_t1w": np.zeros(10)}))


def test_what_was_fitted_is_read_back_or_refused(fitted, tmp_path):
    assert read_measured_signs(tmp_path) is None
    fitted.save(tmp_path)
    assert read_measured_signs(tmp_path) == fitted
    stored = json.loads((tmp_path / MEASURED_SIGNS).read_text())
    stored["signs"]["nodules_t1w"]["spread"][0] = 0
    (tmp_path / MEASURED_SIGNS).write_text(json.dumps(stored))
    with pytest.raises(InputError, match="measured signs"):
        read_measured_signs(tmp_path)


def test_a_texture_unlike_those_of_the_patients_is_not_measured(fitted, patients):
    one = fitted.signs["nodules_t1w"]
    far = dict(zip(one.names, np.array(one.centre) + 6 * np.array(one.spread), strict=True))
    assert one.strength(dict(zip(one.names, one.centre, strict=True))) == pytest.approx(one.constant, abs=0.01)
    assert one.strength(far) is None
    told = [fitted.strengths(scans) for scans in patients[0]]
    assert sum("nodules_t1w" in strengths for strengths in told) >= 0.9 * len(told)
    scan = liver_scan(0.6, 3)
    other = SimpleNamespace(**{**vars(scan), "image": np.sign(scan.image.astype(np.float32) - 0.5).astype(np.float16)})
    assert "nodules_t1w" not in fitted.strengths({"T1W": other})
