"""Explaining a whole patient: what comes back, from which networks, and what is refused."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from toy_patients import LARGE, toy_cohort

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.dataset import draw
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.explanation.methods import methods
from cirrnb.explanation.score import Cancelled, PatientScore
from cirrnb.model.batch import collate
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager


def untrained(seed: int = 0, **settings) -> TrainedStager:
    torch.manual_seed(seed)
    stager = Stager(StagerSettings(pretrained=False, width=16, **settings)).eval()
    return TrainedStager(stager, LARGE, True, "toy", {})


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("toy"), {"train": 4, "test": 2}, settings=LARGE).bags()


@pytest.fixture(scope="module")
def model():
    return untrained()


def same(one: np.ndarray, other: np.ndarray) -> None:
    """Equal to a thousandth of what there is to see; an untrained network's maps are small."""
    assert np.ptp(other) > 0
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * np.ptp(other))


def score_for(model: TrainedStager, bag: Bag) -> PatientScore:
    return PatientScore([model.stager], collate([draw(bag)]))


@pytest.mark.parametrize("name", sorted(set(methods()) - {"deep_lift", "sign_map"}))
@pytest.mark.parametrize("head", ["corn", "cumulative", "cross_entropy"])
def test_every_method_explains_every_slice_of_both_sequences(bags, name, head):
    bag = bags[0]
    few = {"integrated_gradients": {"steps": 4}, "gradient_shap": {"samples": 2}, "occlusion": {"patch": 32}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few steps
        told = cirrnb.explain(untrained(head=head), bag, name, settings=few.get(name), permutations=4)
    for sequence, prepared in bag.scans.items():
        assert told.maps[sequence].shape == prepared.grid.shape
        assert np.isfinite(told.maps[sequence]).all() and np.ptp(told.maps[sequence]) > 0
        assert told.grids[sequence] == prepared.grid
    assert told.simulated and told.subject == bag.subject
    assert (told.baseline is None) == (name in ("attention", "grad_cam", "smooth_saliency"))
    total = told.score - told.shapley.nothing
    assert sum(told.shapley.sequences.values()) == pytest.approx(total, abs=1e-4)
    assert sum(one.sum() for one in told.shapley.slices.values()) == pytest.approx(total, abs=1e-4)
    assert sum(one.sum() for one in told.shapley.weights.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["integrated_gradients", "grad_cam", "attention"])
@pytest.mark.parametrize(
    "network",
    [
        {"pooling": "slice", "head": "cross_entropy", "fusion": "mean"},
        {"encoders": "separate"},
        {"sequences": ("T1W",)},
        {"demographics": True, "scales": 2, "fusion": "weighted"},
    ],
)
def test_stagers_of_every_kind_are_explained(bags, name, network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few steps
        told = cirrnb.explain(
            untrained(**network), bags[0], name, permutations=4, settings={"steps": 2} if name[0] == "i" else None
        )
    assert set(told.maps) == set(network.get("sequences", ("T1W", "T2W")))
    assert all(np.ptp(one) > 0 for one in told.maps.values())
    total = told.score - told.shapley.nothing
    assert sum(one.sum() for one in told.shapley.slices.values()) == pytest.approx(total, abs=1e-4)


def test_a_patient_unlike_the_training_patients_is_told(bags, tmp_path):
    from cirrnb.model.out_of_distribution import fit_out_of_distribution
    from cirrnb.model.trained_model import TrainedModel

    many = toy_cohort(tmp_path / "many", {"train": 40}, settings=LARGE).bags()
    model = TrainedModel((untrained(),), "toy", out_of_distribution=fit_out_of_distribution(many))
    swapped = Bag({"T1W": bags[0].scans["T1W"]})
    scan = swapped.scans["T1W"]
    np.save(tmp_path / "image.npy", 1 - np.asarray(scan.image))
    odd = Bag({"T1W": replace(scan, folder=tmp_path)})
    with pytest.warns(UserWarning, match="unlike the training patients"):
        told = cirrnb.explain(model, odd, "grad_cam", permutations=4)
    assert len(told.notes) > 1


def test_integrated_gradients_add_up(bags, model):
    told = cirrnb.explain(model, bags[0], settings={"steps": 64}, permutations=4)
    total = sum(float(one.sum()) for one in told.maps.values())
    assert told.relative_delta < 0.05
    assert total == pytest.approx(told.score - told.baseline_score + told.delta, abs=1e-3)


def test_the_score_is_the_predictions_own(bags, model):
    told = cirrnb.explain(model, bags[1], "attention", target="above mild", permutations=4)
    chances = cirrnb.predict(model, [bags[1]]).iloc[0]
    assert told.score == pytest.approx(np.log((1 - chances["mild"]) / chances["mild"]), abs=1e-4)


def test_slices_that_did_not_change_are_not_encoded_again_and_nothing_else_changes(bags, model):
    score = score_for(model, bags[0])
    changed = score.slices.repeat(3, 1, 1, 1)
    changed[0, 2] += 0.3
    changed[2] = 0.1
    with torch.no_grad():
        cached = score(changed)
    with torch.enable_grad():
        whole = score(changed)
    torch.testing.assert_close(cached, whole.detach(), atol=1e-4, rtol=1e-4)


def test_slices_that_are_kept_are_encoded_once(bags, model, monkeypatch):
    score = score_for(model, bags[0])
    empty = torch.full_like(score.slices[0], 0.1)
    mixed = torch.where(torch.arange(len(empty))[:, None, None] < 5, empty, score.slices[0])[None]
    with torch.no_grad():
        plain = score(torch.cat([empty[None], mixed]))
        score.keep(empty)
        monkeypatch.setattr(score, "_embed", lambda batch: pytest.fail("encoded again"))
        kept = score(torch.cat([empty[None], mixed]))
    torch.testing.assert_close(kept, plain, atol=1e-5, rtol=1e-5)


def test_a_subset_of_slices_scores_as_if_the_others_had_never_been_acquired(bags, model):
    score = score_for(model, bags[0])
    kept = torch.zeros(1, len(score.batch.sequence), dtype=torch.bool)
    kept[0, :9] = True  # the nine T1W slices
    alone = score_for(model, bags[0].only(["T1W"]))
    with torch.no_grad():
        torch.testing.assert_close(score.subset_scores(kept), alone(alone.slices), atol=1e-5, rtol=1e-5)


def test_one_sequence_alone_is_explained(bags, model):
    told = cirrnb.explain(model, bags[0].only(["T2W"]), "grad_cam", permutations=4)
    assert set(told.maps) == set(told.shapley.sequences) == {"T2W"}
    assert "T1W missing" in told.notes


def test_grad_cam_in_chunks_is_grad_cam_at_once(bags, monkeypatch):
    from cirrnb.explanation import activation_methods

    for encoders in ("shared", "separate"):
        model = untrained(encoders=encoders)
        at_once = cirrnb.explain(model, bags[0], "grad_cam", permutations=4)
        with monkeypatch.context() as patched:
            patched.setattr(activation_methods, "SLICES_PER_PASS", 3)
            in_chunks = cirrnb.explain(model, bags[0], "grad_cam", permutations=4)
        for sequence in at_once.maps:
            same(in_chunks.maps[sequence], at_once.maps[sequence])


def test_a_scales_gradient_is_its_own_and_not_what_deeper_scales_make_of_it(bags, model):
    encoder = model.stager.encoders["shared"]
    batch = collate([draw(bags[0])])
    taken: list[tuple[torch.Tensor, ...]] = []
    handle = encoder.maps.register_forward_hook(lambda module, given, maps: taken.append(maps))
    whole = encoder(batch.slices, batch.sequence)[0].sum()
    handle.remove()
    found = torch.autograd.grad(whole, taken[0])
    leaves = [one.detach().requires_grad_() for one in taken[0]]
    pooled = [gate(one, batch.sequence)[0] for gate, one in zip(encoder.attention, leaves, strict=True)]
    again = encoder.join(torch.cat([level(one) for level, one in zip(encoder.levels, pooled, strict=True)], dim=1))
    for one, other in zip(found, torch.autograd.grad(again.sum(), leaves), strict=True):
        torch.testing.assert_close(one, other)


def test_the_scales_of_grad_cam_add_up(bags, model):
    parts = [cirrnb.explain(model, bags[0], "grad_cam", settings={"scale": k}, permutations=4) for k in (1, 2, 3, 4)]
    whole = cirrnb.explain(model, bags[0], "grad_cam", permutations=4)
    same(sum(part.maps["T1W"] for part in parts), whole.maps["T1W"])


def test_an_explanation_is_kept_and_found_again(bags, model, tmp_path):
    first = cirrnb.explain(model, bags[0], "grad_cam", store=tmp_path, permutations=4)
    (kept,) = tmp_path.glob("*.safetensors")
    asked = []
    again = cirrnb.explain(model, bags[0], "grad_cam", store=tmp_path, permutations=4, cancel=lambda: asked.append(1))
    np.testing.assert_array_equal(again.maps["T2W"], first.maps["T2W"])
    assert (
        again.shapley.sequences == first.shapley.sequences and again.grids == first.grids and again.notes == first.notes
    )
    other = cirrnb.explain(untrained(1), bags[0], "grad_cam", store=tmp_path, permutations=4)
    assert other.score != first.score
    kept.write_bytes(kept.read_bytes()[:100])
    assert cirrnb.explain(model, bags[0], "grad_cam", store=tmp_path, permutations=4).score == first.score


def test_a_patient_of_a_cohort_is_explained(model, tmp_path):
    prepared = toy_cohort(tmp_path, {"test": 2}, settings=LARGE)
    first, second = prepared.bags()
    whole = cirrnb.explain(model, prepared, "grad_cam", permutations=4)
    assert whole.subject == first.subject
    told = cirrnb.explain(model, prepared, "grad_cam", subject=second.subject, permutations=4)
    alone = cirrnb.explain(model, second, "grad_cam", permutations=4)
    assert told.subject == second.subject and told.score == alone.score
    np.testing.assert_array_equal(told.maps["T1W"], alone.maps["T1W"])
    tested = [cirrnb.faithfulness(model, one, told, steps=2, samples=0) for one in (prepared, second)]
    pd.testing.assert_frame_equal(*tested)
    with pytest.raises(InputError, match="nobody"):
        cirrnb.explain(model, prepared, subject="nobody")


def test_a_cancelled_explanation_leaves_nothing(bags, model, tmp_path):
    passes = []
    with pytest.raises(Cancelled):
        cirrnb.explain(model, bags[0], store=tmp_path, cancel=lambda: len(passes) > 2 or passes.append(1))
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_with_the_shares_and_never_goes_back(bags, model):
    told = []
    cirrnb.explain(model, bags[0], "grad_cam", permutations=16, progress=lambda done, total: told.append((done, total)))
    done, total = zip(*told, strict=True)
    assert len(set(total)) == 1 and done[-1] == total[0] and list(done) == sorted(done)
    assert len(set(done)) >= 4, "the shares, which take longer than the map, move it as well"


def test_baselines(bags, model):
    counterfactual = {name: np.zeros(scan.grid.shape) for name, scan in bags[0].scans.items()}
    few = {"settings": {"steps": 32}, "permutations": 4}
    air = cirrnb.explain(model, bags[0], baseline="air", **few)
    same = cirrnb.explain(model, bags[0], baseline="counterfactual", counterfactual=counterfactual, **few)
    np.testing.assert_allclose(air.maps["T1W"], same.maps["T1W"])
    several = cirrnb.explain(model, bags[0], baseline="training", references=bags[2:5], **few)
    assert several.baseline == "training" and several.baseline_score != air.baseline_score


def test_what_makes_no_sense_is_refused(bags, model, tmp_path):
    bag = bags[0]
    for wrong in (
        {"method": "guess"},
        {"target": "terminal"},
        {"target": "mild"},  # an ordered head has no logit of its own for a stage
        {"baseline": "noise"},
        {"baseline": "training"},
        {"baseline": "counterfactual"},
        {"settings": {"step": 3}},
        {"settings": {"steps": 0}},
        {"method": "grad_cam", "settings": {"scale": 9}},
        {"method": "attention", "settings": {"scale": 0}},
    ):
        with pytest.raises(InputError):
            cirrnb.explain(model, bag, **wrong)
    with pytest.raises(InputError, match="attention"):
        cirrnb.explain(untrained(attention="none"), bag, "attention")
    with pytest.raises(InputError, match="integrated_gradients"):
        cirrnb.explain(model, bag, "deep_lift")
    with pytest.raises(InputErrors, match="prepared"):
        cirrnb.explain(replace(model, preparation=replace(LARGE, spacing=4.0)), bag)


def test_a_linear_enough_network_takes_deep_lift(bags):
    model = untrained(attention="none", pooling="mean", fusion="mean", scales=1, dropout=0.0)
    try:
        told = cirrnb.explain(model, bags[0], "deep_lift", permutations=4)
    except InputError as error:
        assert "misses" in error.found  # told, and never a wrong map
    else:
        assert told.relative_delta < 0.05


def test_folds_are_explained_by_the_mean_of_their_scores(bags):
    from cirrnb.model.trained_model import TrainedModel

    both = TrainedModel((untrained(0), untrained(1)), "both")
    maps = [cirrnb.explain(untrained(k), bags[0], "grad_cam", permutations=4).maps["T1W"] for k in (0, 1)]
    told = cirrnb.explain(both, bags[0], "grad_cam", permutations=4)
    same(told.maps["T1W"], (maps[0] + maps[1]) / 2)
