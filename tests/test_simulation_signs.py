"""Latent signs, the stage a reader gives, and the ceiling."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.simulation.ceiling import (
    SEVERITIES,
    ceiling_table,
    cohort_ceilings,
    sign_floors,
    stage_given_severity,
)
from cirrnb.simulation.populations import BENCHMARK, INDEPENDENT, draw_population, read_population
from cirrnb.simulation.signs import CHANNELS, READER_NOISE, SIGNS


@pytest.fixture(scope="module")
def table():
    return ceiling_table(draws=30_000, seed=3).set_index("signs")


def drawn(count, seed=0):
    random = np.random.default_rng(seed)
    severity = random.standard_normal(count)
    impression = severity + READER_NOISE * random.standard_normal(count)
    return np.searchsorted(BENCHMARK.thresholds, impression), BENCHMARK.draw_channels(random, severity)


def test_stage_shares_are_the_published_ones():
    stages, _ = drawn(200_000)
    np.testing.assert_allclose(np.bincount(stages) / 200_000, np.array([131, 114, 73]) / 318, atol=0.005)


def test_a_stage_can_be_asked_for():
    random = np.random.default_rng(1)
    assert {BENCHMARK.draw_latent(random, stage).stage for stage in CIRRHOSIS} == set(CIRRHOSIS)


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


def latent_table(population, patients=400, seed=2):
    """What latent.csv holds of the patients of a population, and two healthy subjects."""
    drawn = population.draw(np.random.default_rng(seed), patients)
    rows = {"stage": [CIRRHOSIS[stage] for stage in drawn.stage] + ["", ""], "severity": [*drawn.severity, "", ""]}
    for index, channel in enumerate(CHANNELS):
        rows[f"channel_{channel.name}"] = [*drawn.channels[:, index], "", ""]
        rows[f"shown_{channel.name}"] = [*drawn.shown[:, index], 0, 0]
    return pd.DataFrame(rows)


def test_ceilings_of_the_very_patients_of_a_cohort():
    table = cohort_ceilings(latent_table(BENCHMARK)).set_index("signs")
    assert (table.n == 400).all()
    assert 0.8 < table.accuracy["all"] < table.accuracy["severity"] < 1
    assert (table.low < table.accuracy).all() and (table.accuracy < table.high).all()
    assert table.expected["all"] == pytest.approx(table.accuracy["all"], abs=0.05)


def test_where_signs_say_nothing_the_ceiling_is_the_largest_stage():
    table = cohort_ceilings(latent_table(INDEPENDENT), INDEPENDENT).set_index("signs")
    majority = float((latent_table(INDEPENDENT).stage.iloc[:-2] == "mild").mean())
    assert table.accuracy["all"] == pytest.approx(majority)
    assert table.expected["all"] == pytest.approx(131 / 318, abs=0.01)


def test_severity_alone_tells_the_signs_of_the_benchmark_and_none_of_independent_ones():
    floors = sign_floors(latent_table(BENCHMARK)).set_index("sign")
    assert set(floors.index) == {*(channel.name for channel in CHANNELS), "no sign"}
    assert floors.auroc.between(0.85, 0.98).all()
    independent = sign_floors(latent_table(INDEPENDENT)).set_index("sign")
    assert independent.auroc.drop("no sign").between(0.4, 0.6).all()
    assert independent["rank"].dropna().abs().max() < 0.25


def test_nobody_with_a_stage_has_no_ceiling():
    with pytest.raises(InputError, match="nobody with a stage"):
        cohort_ceilings(latent_table(BENCHMARK).tail(2))


def test_drawn_populations_differ_and_keep_to_their_ranges():
    random = np.random.default_rng(0)
    for population in (draw_population(random) for _ in range(20)):
        follows = [channel.follows for channel in population.channels]
        assert min(follows) >= 0.4 and max(follows) <= 0.95 and max(follows) - min(follows) > 0.1
        stages = population.draw(random, 20_000).stage
        np.testing.assert_allclose(np.bincount(stages, minlength=3) / 20_000, population.shares, atol=0.015)


def test_a_population_is_read_from_a_file(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"follows": {"spleen": 0.5}, "onset": {"ascites": 0}, "shares": [0.2, 0.5, 0.3]}')
    population = read_population(str(path))
    changed = {channel.name: (channel.follows, channel.onset) for channel in population.channels}
    usual = {channel.name: (channel.follows, channel.onset) for channel in CHANNELS}
    assert changed == usual | {"spleen": (0.5, -0.1), "ascites": (0.86, 0.0)}
    assert population.name == "other" and population.shares == pytest.approx((0.2, 0.5, 0.3))
    assert read_population("benchmark") is BENCHMARK


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"corelation": 1}',
        '{"follows": {"spleen": 1.5}}',
        '{"follows": {"splen": 0.5}}',
        '{"onset": {"spleen": true}}',
        '{"reader_noise": "much"}',
        '{"shares": [0.5, 0.5]}',
        '{"shares": [0.5, 0.5, 0.5]}',
    ],
)
def test_files_that_are_no_population(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"other\.json"):
        read_population(str(path))


def test_no_such_population():
    with pytest.raises(InputError, match="benchmark, independent"):
        read_population("nowhere")
