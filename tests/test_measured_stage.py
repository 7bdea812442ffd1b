"""The stage from the network and from measurements together: the sum of terms, its file, models that rest on it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from toy_patients import SETTINGS, toy_cohort

from cirrnb.data.errors import InputError
from cirrnb.measure.measurement import Measurement
from cirrnb.model import calibrate as calibrating
from cirrnb.model import prediction as predicting
from cirrnb.model.adapt import adapt
from cirrnb.model.adaptation import severity_of
from cirrnb.model.calibrate import calibrate
from cirrnb.model.checkpoint import save_stager
from cirrnb.model.measured_stage import (
    MEASURED_STAGE,
    NETWORK,
    fit_measured_stage,
    measured_values,
    read_measured_stage,
    unseen_probabilities,
)
from cirrnb.model.prediction import predict, predict_patient
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import load_model
from cirrnb.view.sentences import prediction_html


def drawn(count=300, seed=0):
    """Severity, seen by a network and by a ruler with errors of their own, and a term that says nothing."""
    random = np.random.default_rng(seed)
    severity = random.standard_normal(count)
    table = {
        NETWORK: severity + 0.7 * random.standard_normal(count),
        "liver volume": 7 - 0.2 * (severity + 0.7 * random.standard_normal(count)),
        "sphericity": random.standard_normal(count),
    }
    return pd.DataFrame(table), np.digitize(severity, [-0.4, 0.6])


def told(fitted, values):
    return np.array([fitted.probabilities(row.dropna().to_dict()) for _, row in values.iterrows()])


def measured(name, value):
    return Measurement(name, value, "", "")


def test_two_witnesses_are_better_than_one():
    values, truth = drawn()
    fresh, wanted = drawn(1000, seed=1)
    both, alone = fit_measured_stage(values, truth, 3), fit_measured_stage(values[[NETWORK]], truth, 3)
    right = [(told(one, fresh[list(one.names)]).argmax(axis=1) == wanted).mean() for one in (both, alone)]
    assert right[0] > right[1] + 0.04
    weights = dict(zip(both.names, both.weight, strict=True))
    assert weights[NETWORK] > 0.5 and weights["liver volume"] < -0.5 and abs(weights["sphericity"]) < 0.5
    np.testing.assert_allclose(told(both, fresh).sum(axis=1), 1)


def test_what_was_not_measured_adds_nothing():
    values, truth = drawn()
    values.loc[::7, "liver volume"] = np.nan
    fitted = fit_measured_stage(values, truth, 3)
    assert set(fitted.contributions({NETWORK: 1.0})) == {NETWORK}
    centre = dict(zip(fitted.names, fitted.centre, strict=True))
    np.testing.assert_allclose(fitted.probabilities({NETWORK: 1.0}), fitted.probabilities({**centre, NETWORK: 1.0}))
    values["rare"] = np.nan
    values.loc[:20, "rare"] = 1.5
    assert "rare" not in fit_measured_stage(values, truth, 3).names, "too few have it"


def test_a_measurement_far_out_adds_no_more_and_the_network_does():
    fitted = fit_measured_stage(*drawn(), 3)
    place, centre = fitted.names.index("liver volume"), dict(zip(fitted.names, fitted.centre, strict=True))
    far = {**centre, "liver volume": centre["liver volume"] + 20 * fitted.spread[place]}
    assert fitted.contributions(far)["liver volume"] == pytest.approx(2.5 * fitted.weight[place])
    sure = {**centre, NETWORK: centre[NETWORK] + 20 * fitted.spread[0]}
    assert fitted.contributions(sure)[NETWORK] == pytest.approx(20 * fitted.weight[0])


def test_patients_are_answered_for_by_those_who_did_not_see_them():
    values, _ = drawn(120)
    values["noise"] = np.random.default_rng(3).standard_normal(120)
    nonsense = np.arange(120) % 3
    seen = (told(fit_measured_stage(values, nonsense, 3), values).argmax(axis=1) == nonsense).mean()
    unseen = (unseen_probabilities(values, nonsense, 3).argmax(axis=1) == nonsense).mean()
    assert unseen < 0.45 and unseen < seen


def test_values_of_measurements():
    found = measured_values(
        {
            "T1W": (measured("liver volume", 1000.0), measured("signal heterogeneity", 10.0), measured("nobody", 1.0)),
            "T2W": (measured("liver volume", 4000.0), measured("ascites volume", 0.0), measured("sphericity", None)),
        }
    )
    assert found == pytest.approx(
        {"liver volume": np.log(2000), "T1W signal heterogeneity": np.log(10), "ascites volume": np.log(50)}
    )


def test_too_few_patients_or_a_stage_that_nobody_has():
    values, truth = drawn(59)
    with pytest.raises(InputError, match="59 patients"):
        fit_measured_stage(values, truth, 3)
    values, truth = drawn()
    with pytest.raises(InputError, match="stage number 3"):
        fit_measured_stage(values, np.minimum(truth, 1), 3)


def test_the_file(tmp_path):
    fitted = fit_measured_stage(*drawn(), 3)
    assert read_measured_stage(tmp_path) is None
    path = fitted.save(tmp_path)
    assert read_measured_stage(tmp_path) == fitted
    stored = json.loads(path.read_text())
    wrong = [
        {"names": ["liver volume", *stored["names"][1:]]},
        {"names": [NETWORK] * 3},
        {"spread": [0.0, 1.0, 1.0]},
        {"weight": [1.0]},
        {"weight": [float("nan"), 1.0, 1.0]},
        {"thresholds": [1.0, 0.0]},
        {"thresholds": []},
        {"n": -1},
        {"more": 1},
        {"format": 2},
    ]
    for change in wrong:
        path.write_text(json.dumps({**stored, **change}))
        with pytest.raises(InputError, match=MEASURED_STAGE):
            read_measured_stage(tmp_path)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("scans"), {"train": 90}, signal=0.0, slices=(2, 1))


@pytest.fixture
def ruler(monkeypatch, cohort):
    """Livers of toy patients are the smaller, the later the stage."""
    stages = {bag.subject: ("mild", "moderate", "severe").index(bag.stage) for bag in cohort.bags()}
    factor = {"": 1.0}

    def measure(bag):
        number = int(bag.patient)
        value = factor[""] * 1500 * np.exp(-0.3 * stages[bag.subject] + 0.02 * (number % 7))
        return {"T1W": (measured("liver volume", value),)}

    monkeypatch.setattr(predicting, "measurements_of", measure)
    monkeypatch.setattr(calibrating, "measurements_of", measure)
    return factor


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    stager = Stager(StagerSettings(width=16, pretrained=False), fetch=False).eval()
    save_stager(folder, stager, {"preparation": vars(SETTINGS), "simulated": True})
    return folder


def test_a_model_rests_on_measurements_where_it_was_fitted_to(run, cohort, ruler):
    plain = calibrate(run, cohort)
    alone = predict(plain, cohort)
    assert plain.measured is None and not [name for name in alone if name.startswith("adds ")]
    model = calibrate(run, cohort, measurements=True)
    assert model.measured.names == (NETWORK, "liver volume") and model.fingerprint != plain.fingerprint
    answers = predict(model, cohort)
    right = [(table["predicted"] == table["stage"]).mean() for table in (answers, alone)]
    assert right[0] > 0.9 > right[1], "an untrained network knows nothing, the ruler does"
    assert answers["adds liver volume"].corr(answers["severe"], method="spearman") > 0.8
    one = predict_patient(model, cohort.bags()[0])
    with pytest.MonkeyPatch.context() as patch:
        found = predicting.measurements_of(cohort.bags()[0])
        patch.setattr(predicting, "measurements_of", None)
        again = predict_patient(model, cohort.bags()[0], measurements=found)
    assert (again.probabilities, again.adds) == (one.probabilities, one.adds), "measured once"
    severity = sum(one.adds.values())
    wanted = 1 / (1 + np.exp(-(severity - np.array(model.measured.thresholds))))
    chances = model.measured.probabilities(one.terms)
    np.testing.assert_allclose([chances[1:].sum(), chances[2]], wanted)
    written = pd.read_csv(run / "training.csv")
    assert {"term network", "term liver volume"} < set(written) and len(written) == 90
    assert "liver volume" in prediction_html(one, recorded=None, coverage=None, simulated=True)
    calibrate(run, cohort)
    assert load_model(run).measured is None, "calibrated again without, it rests on the network alone"


def test_no_model_is_measured_for_that_does_not_need_it(run, cohort, monkeypatch):
    def fail(bag):
        raise AssertionError

    monkeypatch.setattr(predicting, "measurements_of", fail)
    assert predict(run, cohort)["predicted"].notna().all()


def test_each_term_is_adapted_to_a_site(run, cohort, ruler, tmp_path):
    model = calibrate(run, cohort, measurements=True)
    ruler[""] = 0.5  # at the site every liver is drawn half as large
    lost = predict(model, cohort)
    adapted = adapt(run, cohort, tmp_path / "adapted")
    terms = adapted.adaptation.terms
    assert set(terms.quantiles) == {NETWORK, "liver volume"} and not terms.weights and terms.blend == 1
    found = predict(load_model(tmp_path / "adapted"), cohort)
    right = [(table["predicted"] == table["stage"]).mean() for table in (found, lost)]
    assert right[0] > 0.85 and right[0] > right[1] + 0.2
    staged = [str(bag.subject) for bag in cohort.bags()][:40]
    with_stages = adapt(run, cohort, tmp_path / "with-stages", stages_of=staged)
    assert with_stages.adaptation.staged == 40 and with_stages.adaptation.terms == adapted.adaptation.terms


def test_terms_of_another_number_of_stages_are_refused(run, cohort, ruler):
    model = calibrate(run, cohort, measurements=True)
    replace(model.measured, thresholds=(0.0, 1.0, 2.0)).save(run)
    with pytest.raises(InputError, match="4 stages"):
        load_model(run)


def test_the_network_s_severity_is_its_mean_log_odds():
    assert severity_of([[0.25, 0.25, 0.5]])[0] == pytest.approx((np.log(3) + 0) / 2)
