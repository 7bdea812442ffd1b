"""Terms of a stage at a site: their weights without stages, when the site counts as another one, and the file."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.adaptation import ADAPTATION, fit_adaptation, read_adaptation
from cirrnb.model.measured_stage import NETWORK, MeasuredStage
from cirrnb.model.site_terms import SiteTerms, fit_site_terms, loadings, site_blend, style_shift

NAMES = (NETWORK, "spleen volume", "sphericity", "ascites volume")
MEASURED = MeasuredStage(NAMES, (0.0,) * 4, (1.0,) * 4, (2.5, 0.1, -0.3, 0.1), (-1.0, 1.5), 500)
DIRECTION = np.sign(MEASURED.weight)


def patients(count, seed, tells, offset=(0.0,) * 4, mean=0.0):
    """Severities, and terms that follow them with the correlations `tells`."""
    random = np.random.default_rng(seed)
    severity = mean + random.standard_normal(count)
    noise = random.standard_normal((count, len(NAMES)))
    told = np.array(tells) * severity[:, None] + np.sqrt(1 - np.square(tells)) * noise
    return severity, pd.DataFrame(DIRECTION * told + np.array(offset), columns=NAMES)


AT_HOME = (0.9, 0.4, 0.5, 0.5)
HOME = patients(800, 0, AT_HOME)[1]
ELSEWHERE = (0.5, 0.9, 0.2, 0.8)
FAR = (2.0, -1.5, 1.0, 0.5)


def severities(terms, site):
    return [
        sum(site.contributions(row, MEASURED.contributions(site.mapped(row, len(terms)))).values())
        for row in terms.to_dict("records")
    ]


def test_loadings_are_how_well_each_term_tells_what_all_share():
    _, terms = patients(5000, 1, AT_HOME)
    np.testing.assert_allclose(loadings(terms.to_numpy() * DIRECTION), AT_HOME, atol=0.06)
    constant = np.column_stack([np.ones(50), np.zeros(50)])
    assert (loadings(constant) == 0).all()


def test_terms_count_at_another_site_for_what_they_tell_there():
    severity, terms = patients(120, 2, ELSEWHERE, FAR)
    found = fit_site_terms(terms, HOME, MEASURED)
    assert found.blend > 0.95
    assert found.weights["spleen volume"] > found.weights[NETWORK] and found.weights["sphericity"] <= 0
    own = [sum(MEASURED.contributions(row).values()) for row in terms.to_dict("records")]
    assert spearmanr(severities(terms, found), severity)[0] > spearmanr(own, severity)[0] + 0.1


@pytest.mark.parametrize("mean", [0.0, 1.0, -1.0])
def test_a_site_that_is_only_more_or_less_ill_is_home(mean):
    """Nothing is mapped there, so that nobody is told better or worse than at home."""
    _, terms = patients(150, 3, AT_HOME, mean=mean)
    found = fit_site_terms(terms, HOME, MEASURED)
    assert found.blend < 0.15
    own = [sum(MEASURED.contributions(row).values()) for row in terms.to_dict("records")]
    assert np.abs(np.subtract(severities(terms, found), own)).mean() < 0.3


def test_the_shift_of_a_style_is_what_severity_does_not_explain():
    scores = HOME * DIRECTION
    assert style_shift(scores + 0.8 * np.array(AT_HOME), scores, np.array(AT_HOME)) < 0.05
    assert style_shift(scores + np.array(FAR), scores, np.array(AT_HOME)) > 1
    assert site_blend(0.0) == 0 and site_blend(0.35) == pytest.approx(0.5) and site_blend(2.0) > 0.99


def test_what_was_not_measured_leaves_its_weight_to_the_rest():
    _, terms = patients(200, 4, ELSEWHERE, FAR)
    found = fit_site_terms(terms, HOME, MEASURED)
    whole = severities(terms, found)
    without = severities(terms.drop(columns="spleen volume"), found)
    assert np.std(without) == pytest.approx(np.std(whole), rel=0.35)
    assert found.contributions({}, {}) == {}


def test_two_terms_are_mapped_and_not_weighed():
    names = list(NAMES[:2])
    found = fit_site_terms(patients(60, 5, ELSEWHERE, FAR)[1][names], HOME[names], MEASURED)
    assert set(found.quantiles) == set(names) and not found.weights and found.blend == 1


def adaptation():
    _, terms = patients(60, 6, ELSEWHERE, FAR)
    site = fit_site_terms(terms, HOME, MEASURED)
    chances = pd.DataFrame([MEASURED.of_severity(one) for one in severities(terms, site)], columns=list(CIRRHOSIS))
    reference = pd.DataFrame([MEASURED.probabilities(row) for row in HOME.to_dict("records")], columns=list(CIRRHOSIS))
    return fit_adaptation("A", "f" * 64, chances, reference, list(CIRRHOSIS), terms=site)


def test_the_file_gives_back_maps_and_weights(tmp_path):
    made = adaptation()
    made.save(tmp_path)
    again = read_adaptation(tmp_path)
    assert again == made and again.fingerprint == made.fingerprint
    assert again.weight == pytest.approx(made.terms.blend * 60 / 70)


def test_a_file_of_before_weighs_nothing_and_is_read(tmp_path):
    path = adaptation().save(tmp_path)
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "format": 1, "weight": 0.0, "terms": stored["terms"]["quantiles"]}))
    old = read_adaptation(tmp_path)
    assert isinstance(old.terms, SiteTerms) and not old.terms.weights and old.terms.blend == 1
    assert set(old.terms.quantiles) == set(NAMES) and old.weight == 0


def test_every_answer_says_if_the_site_was_like_home():
    made = adaptation()
    assert "little was changed" not in made.sentence
    assert "little was changed" in replace(made, terms=replace(made.terms, blend=0.1)).sentence


@pytest.mark.parametrize(
    "terms",
    [
        {"quantiles": {}, "weights": {"spleen volume": 1.0}, "blend": 1.0},
        {"quantiles": {}, "weights": {}, "blend": 1.5},
        {"quantiles": {}, "weights": {}},
        {"quantiles": {"a": [[1.0], [2.0]]}, "weights": {}, "blend": 1.0},
        [],
        None,
    ],
)
def test_terms_that_no_adaptation_has_are_refused(tmp_path, terms):
    path = adaptation().save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "terms": terms}))
    with pytest.raises(InputError, match=ADAPTATION.replace(".", r"\.")):
        read_adaptation(tmp_path)
