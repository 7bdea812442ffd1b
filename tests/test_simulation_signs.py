"""Latent signs, the stage a reader gives, and the ceiling."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.simulation.ceiling import SEVERITIES, ceiling_table, stage_given_severity
from cirrnb.simulation.signs import CHANNELS, READER_NOISE, SIGNS, draw_channels, draw_latent, thresholds


@pytest.fixture(scope="module")
def table():
    return ceiling_table(draws=30_000, seed=3).set_index("signs")


def drawn(count, seed=0):
    random = np.random.default_rng(seed)
    severity = random.standard_normal(count)
    impression = severity + READER_NOISE * random.standard_normal(count)
    return np.searchsorted(thresholds(), impression), draw_channels(random, severity)


def test_stage_shares_are_the_published_ones():
    stages, _ = drawn(200_000)
    np.testing.assert_allclose(np.bincount(stages) / 200_000, np.array([131, 114, 73]) / 318, atol=0.005)


def test_a_stage_can_be_asked_for():
    random = np.random.default_rng(1)
    assert {draw_latent(random, stage).stage for stage in CIRRHOSIS} == set(CIRRHOSIS)


def test_signs_show_more_often_with_severity_and_are_often_absent_below_severe():
    stages, values = drawn(20_000)
    for index, channel in enumerate(CHANNELS):
        seen = [float((channel.shown(values[stages == stage, index]) > 0.1).mean()) for stage in range(3)]
        assert seen[0] < seen[1] < seen[2], channel
        assert seen[0] < 0.5, channel
    ascites = next(index for index, channel in enumerate(CHANNELS) if channel.name == "ascites")
    assert (CHANNELS[ascites].shown(values[stages == 2, ascites]) == 0).mean() > 0.1


def test_stage_probabilities_add_up_and_follow_severity():
    chances = stage_given_severity()
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert chances[0, 0] == pytest.approx(1) and chances[-1, 2] == pytest.approx(1)
    assert np.all(np.diff(chances[:, 2]) >= 0) and len(chances) == len(SEVERITIES)


def test_ceiling_is_where_it_should_be(table):
    best = table.accuracy["all"]
    assert 0.80 < best < 0.90
    assert (table.low < table.accuracy).all() and (table.accuracy < table.high).all()
    assert 0.80 < table.accuracy["T1W"] < best and 0.80 < table.accuracy["T2W"] < best


def test_no_two_signs_suffice_and_none_is_superfluous(table):
    pairs = table[table.index.str.startswith("pair")]
    assert len(pairs) == len(SIGNS) * (len(SIGNS) - 1) // 2
    assert pairs.loss.min() > 0.05
    missed = table[table.index.str.startswith("without")]
    assert len(missed) == len(SIGNS) == 7
    assert missed.loss.min() > 0.002


def test_ceiling_is_not_beaten_and_nearly_reached_by_a_classifier(table):
    stages, values = drawn(40_000, seed=5)
    seen = np.maximum(values, [channel.onset for channel in CHANNELS])
    model = LogisticRegression(max_iter=300).fit(seen[:20_000], stages[:20_000])
    score = model.score(seen[20_000:], stages[20_000:])
    assert table.accuracy["all"] - 0.03 < score < table.accuracy["all"] + 0.01
