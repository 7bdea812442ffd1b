"""The four checks: scores, thresholds, reasons, missing organs, stored and read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.status import reasons_of
from cirrnb.segmentation import check_fitting
from cirrnb.segmentation.check_fitting import (
    AGAINST,
    NOTHING,
    PARTS_EACH,
    PRESENCE,
    UPSIDE_DOWN,
    _fit_presence,
    auroc,
    fit,
    run_job,
    thresholds_of,
)
from cirrnb.segmentation.checks import Checker, load_checker, save_checker, worst
from cirrnb.segmentation.judging import checker_of
from cirrnb.segmentation.observations import CANAL, observe
from cirrnb.segmentation.pairs import PAIR, Labelled, compare
from cirrnb.segmentation.segmenter import Segmentation
from cirrnb.segmentation.sequence_model import CONTRASTS, KNOWN, contrasts
from cirrnb.simulation.body_parts import PARTS
from cirrnb.simulation.tissue_shares import ORGANS

NAN = float("nan")


def organ(name: str) -> int:
    return ORGANS.index(name) + 1


def abdomen(slices: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Labels and a T2-like image: liver on the right (low columns), kidneys below it, spine behind."""
    label = np.zeros((slices, 60, 80), np.uint8)
    label[:, 10:50, 8:72] = organ("body")
    label[slices // 3 :, 15:38, 12:40] = organ("right lobe")
    label[slices // 2 :, 24:36, 60:68] = organ("spleen")
    label[: slices // 3, 34:42, 14:22] = label[: slices // 3, 34:42, 58:66] = organ("kidneys")
    label[:, 40:48, 36:44] = organ("vertebrae")
    label[:, 36:39, 41:45] = organ("aorta")
    signals = np.full(len(ORGANS) + 1, 40.0)
    signals[0] = 1.0
    for name, value in (("right lobe", 50), ("spleen", 100), ("kidneys", 140), ("vertebrae", 45), ("aorta", 10)):
        signals[organ(name)] = value
    return label, signals[label].astype(np.float32)


def signals(t2w: float, spread: float = 0.0, random: np.random.Generator | None = None) -> dict[str, float]:
    """Signals as observed: 0 is a T1W scan, whose fluid is darker than the liver, 1 a T2W scan, whose organs are
    brighter; each is moved by a normal deviate of `spread`."""
    random = random or np.random.default_rng(0)
    first = {name: -0.8 + 0.1 * place for place, name in enumerate(CONTRASTS)}
    found = {name: (1 - t2w) * value + t2w * (value + 1.6) for name, value in first.items()}
    found = {name: value + float(random.normal(0, spread)) for name, value in found.items()}
    found |= {"brightest": max(found.values()) + 0.2, "darkest": min(0.0, *found.values()) - 0.5}
    canal = {CANAL[0]: 0.2 + t2w + float(random.normal(0, spread)), CANAL[1]: 0.6 + 0.4 * t2w}
    around = {"background": 0.02, "background spread": 0.01}
    return {f"signal {name}": value for name, value in found.items()} | canal | around | {"grain": -3.5}


def flat(random: np.random.Generator) -> dict[str, float]:
    """Signals as of a CT: all organs about as bright as the liver, little noise."""
    found = {f"signal {name}": float(random.normal(0, 0.03)) for name in CONTRASTS}
    found |= {"signal brightest": 0.3, "signal darkest": -0.3, CANAL[0]: 0.1, CANAL[1]: 0.9}
    return found | {"grain": float(random.normal(-5.5, 0.3))}


def rows(kind: str, liver: float, count: int, random: np.random.Generator, place: float) -> list[dict]:
    found = []
    for number in range(count):
        row = flat(random) if kind == "CT" else signals(place, 0.15, random)
        row |= {name: random.normal(2.0 if liver else -2.0, 1.0) for name in PRESENCE}
        row |= {name: random.normal(-40, 20) for name in UPSIDE_DOWN}
        row |= {f"liver as it stands against {name}": random.normal(1.5, 0.5) for name in ("mirrored", "front to back")}
        found.append({"kind": kind, "body": number, "liver": liver, **row})
    return found


@pytest.fixture(scope="module")
def checker() -> Checker:
    random = np.random.default_rng(1)
    seen = rows("T1W", 1500.0, 120, random, 0.0) + rows("T2W", 1500.0, 120, random, 1.0)
    seen += rows("CT", 1500.0, 60, random, 0.5) + rows(NOTHING, 0.0, 60, random, 0.0)
    pairs = []
    for _ in range(40):
        for kind, overlap, likeness in (
            ("T1W", 0, 0),
            ("T2W", 0, 0),
            ("pair", 0.9, 0.2),
            ("two patients", 0.6, 0.2),
            ("twice", 1.0, 9.0),
        ):
            values = {name: random.normal(0.1, 0.02) for name in PAIR}
            values |= {"overlap of the livers": random.normal(overlap, 0.03), "likeness of the images": likeness}
            pairs.append(
                {"kind": kind, **values}
                if overlap
                else {**rows(kind, 1500.0, 1, random, 0.0 if kind == "T1W" else 1.0)[0], "body": -1}
            )
    return fit(seen, pairs, "f" * 64)


def good(place: float = 0.0) -> dict[str, float]:
    row = signals(place) | dict.fromkeys(PRESENCE, 2.0) | dict.fromkeys(UPSIDE_DOWN, -40.0)
    return row | {"liver as it stands against mirrored": 1.5, "liver as it stands against front to back": 1.5}


def outcomes(
    checker: Checker, observed: dict[str, float], declared: str = "T1W", person: bool = False
) -> dict[str, str]:
    return {check.name: check.outcome for check in checker.check_scan(observed, declared, person)}


def test_right_input_passes_and_each_fault_fails_its_own_check(checker: Checker) -> None:
    assert outcomes(checker, good()) == {"presence": "passed", "sequence": "passed", "side": "passed"}
    no_liver = good() | dict.fromkeys(PRESENCE, -2.0)
    assert outcomes(checker, no_liver)["presence"] == "refused"
    assert outcomes(checker, good(1.0))["sequence"] == "doubtful", "one sequence for the other is never refused alone"
    assert outcomes(checker, good() | flat(np.random.default_rng(0)))["sequence"] == "refused"
    assert outcomes(checker, good(1.0), "T2W")["sequence"] == "passed"
    assert outcomes(checker, good() | {"liver as it stands against mirrored": -1.5})["side"] == "refused"
    assert outcomes(checker, good() | dict.fromkeys(UPSIDE_DOWN, 40.0))["side"] == "refused"
    assert [worst(checker.check_scan(one, "T1W")) for one in (no_liver, good(1.0))] == ["refused", "doubtful"]


def test_a_reason_names_the_sequence_that_a_scan_looks_like(checker: Checker) -> None:
    swapped = next(check for check in checker.check_scan(good(1.0), "T1W") if check.name == "sequence")
    assert "T2W" in swapped.reason and swapped.remedy
    assert "fat suppression" in swapped.reason, "which T1W without it would explain as well"
    (kept,) = reasons_of(f"sequence: {swapped.reason} ({swapped.remedy})")
    assert (kept.text, kept.remedy) == (swapped.reason, swapped.remedy), "a table gives it back"
    neither = next(
        check
        for check in checker.check_scan(good() | flat(np.random.default_rng(0)), "T1W")
        if check.name == "sequence"
    )
    assert neither.outcome == "refused" and "neither" in neither.reason


def test_presence_is_not_asked_where_a_person_drew_the_liver(checker: Checker) -> None:
    assert "presence" not in outcomes(checker, good(), person=True)


def test_missing_organs_leave_the_rest_to_judge(checker: Checker) -> None:
    few = good() | dict.fromkeys([f"signal {name}" for name in CONTRASTS[:6]], NAN) | dict.fromkeys(UPSIDE_DOWN, NAN)
    assert outcomes(checker, few) == {"presence": "passed", "sequence": "passed", "side": "passed"}
    nothing = dict.fromkeys(good(), NAN) | dict.fromkeys(PRESENCE, -2.0)
    assert np.isnan(next(check.score for check in checker.check_scan(nothing, "T1W") if check.name == "sequence"))
    assert outcomes(checker, nothing)["presence"] == "refused"


def test_contrasts_do_not_feel_gain_and_offset() -> None:
    """Signals by hand: liver 100, spleen 150, range 50 to 250: a quarter of the range above the liver."""
    label, image = abdomen()
    first = contrasts({"signal spleen": np.log(1.5), "signal brightest": np.log(2.5), "signal darkest": np.log(0.5)})
    assert first["contrast spleen"] == pytest.approx(0.25) and first["range"] == pytest.approx(np.log(2))
    assert np.isnan(first["contrast kidneys"])
    found = []
    for scan in (image, 7 * image, image + 1024):
        seen = observe(scan.astype(np.float32), label, np.ones(label.shape, np.float32), (6.0, 3.0, 3.0))
        found.append([value for name, value in contrasts(seen).items() if name.startswith("contrast")])
    assert np.allclose(found[0], found[1], atol=1e-4, equal_nan=True)
    assert np.allclose(found[0], found[2], atol=2e-3, equal_nan=True)


def test_one_organ_in_the_wrong_place_moves_the_side_by_a_bounded_amount(checker: Checker) -> None:
    name = UPSIDE_DOWN[0]
    far, farther = ({**dict.fromkeys(UPSIDE_DOWN, -40.0), name: height} for height in (300.0, 3000.0))
    assert checker.upside_down.score(far) == checker.upside_down.score(farther)


def test_two_patients_and_one_image_twice_fail_the_pair(checker: Checker) -> None:
    same = dict.fromkeys(PAIR, 0.1) | {"overlap of the livers": 0.9, "likeness of the images": 0.2}
    assert checker.check_pair(same).outcome == "passed"
    assert checker.check_pair(same | {"overlap of the livers": 0.6}).outcome != "passed"
    assert checker.check_pair(same | {"overlap of the livers": 1.0, "likeness of the images": 9.0}).outcome != "passed"
    assert checker.check_pair(dict.fromkeys(PAIR, NAN)).outcome == "passed", "no liver is the presence check's affair"


def test_thresholds_hold_their_share_of_right_input() -> None:
    scores = 5 + np.random.default_rng(0).standard_normal(20_000)
    lower = 2 * (scores - 5) - 3  # far enough below 0 that neither bound counts
    doubt, refuse = thresholds_of(lower)
    shares = [float((lower < threshold).mean()) for threshold in (doubt, refuse)]
    assert 0.003 < shares[0] < 0.02 and 0.0003 < shares[1] < 0.006 and refuse < doubt
    assert thresholds_of(scores) == (0.0, AGAINST), "right input is never refused for odds in its favour or a bit below"


def test_volumes_in_which_no_liver_is_found_move_no_weight_of_presence_and_are_refused() -> None:
    random = np.random.default_rng(3)
    seen = rows("T1W", 1500.0, 60, random, 0.0) + rows("T2W", 1500.0, 60, random, 1.0)
    seen += rows("CT", 1500.0, 30, random, 0.5) + rows(NOTHING, 0.0, 60, random, 0.0)
    empty = {**rows(NOTHING, 0.0, 1, random, 0.0)[0], **dict.fromkeys(PRESENCE, NAN)}
    empty |= {"size of the liver": 0.0, "organs found": 0.0}
    first, again = (_fit_presence(both) for both in (seen, [*seen, *[empty] * 200]))
    assert np.array_equal(first.weights, again.weights) and first.intercept == again.intercept
    assert first.score(empty) < 0 < first.score(good())


class Stub:
    """A segmenter that notes what it is given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def segment(self, volume: np.ndarray, grid: Grid) -> Segmentation:
        self.shapes.append(volume.shape)
        return Segmentation(np.zeros(volume.shape, np.uint8), grid, "stub", None, {"volume liver": 0.0})


def test_other_parts_of_a_body_are_observed_once_each_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = Stub()
    monkeypatch.setitem(check_fitting._LOADED, "", stub)  # type: ignore[arg-type]
    common = {"network": "", "fingerprint": "f" * 64, "out": str(tmp_path)}
    found = [row for number in (0, 1) for row in run_job({**common, "parts": number})["rows"]]
    assert [row["part"] for row in found] == list(PARTS), "two bodies show all of them"
    assert {(row["kind"], row["liver"]) for row in found} == {(NOTHING, 0.0)}
    assert [row["body"] for row in found] == [0] * PARTS_EACH + [1] * PARTS_EACH
    seen = len(stub.shapes)
    assert run_job({**common, "parts": 1})["rows"] == found[PARTS_EACH:] and len(stub.shapes) == seen


def test_auroc_by_hand() -> None:
    assert auroc([3.0, 1.0], [2.0, 1.0]) == (2 + 0 + 0.5) / 4


def test_stored_checks_judge_as_before(checker: Checker, tmp_path: Path) -> None:
    save_checker(tmp_path / "checks.json", checker)
    again = load_checker(tmp_path / "checks.json")
    for observed in (good(), good(1.0), good() | dict.fromkeys(PRESENCE, -2.0)):
        assert again.check_scan(observed, "T1W") == checker.check_scan(observed, "T1W")
    assert again.fingerprint == checker.fingerprint


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[(("format",), value) for value in (99, 2.0, "2")],
        *[(("observations",), value) for value in (2.0, None)],
        *[(("turned",), value) for value in ([1.0, "much"], ["1", "2"], "12", [1.0], [True, 1.0])],
        (("thresholds",), {"presence": [0, 0]}),
        *[(("thresholds", "side"), value) for value in ([-3.0, 0.0], ["nan", "nan"], [1e300, 0.0], [None, 0.0])],
        (
            ("presence",),
            {"names": ["a"], "weights": [1], "mean": [0], "scale": [1], "absent": [0], "intercept": 0, "bound": 6},
        ),
        *[(("presence", "intercept"), value) for value in ("nan", True, None, [0.0])],
        *[(("presence", "names", 0), value) for value in ("size of the lever", 5, None)],
        *[(("presence", "scale", 0), value) for value in (0, -1.0, "1")],
        *[(("pair", "weights", 0), value) for value in ("nan", False, [1.0], 1e300)],
        (("sequence",), None),
        *[(("sequence", "classes"), value) for value in (["other"], ["T1W", "T1W", "other"], "T1W")],
        (("sequence", "classes"), ["T1W", "T2W", "x"]),
        *[(("sequence", "which", "weights", 0, 0), value) for value in ("1", None, [1.0])],
        *[(("sequence", part, "names", 0), "signal of nothing") for part in ("which", "known")],
        *[(("sequence", "known", "scale", 3), value) for value in (0, -1.0, "1")],
        *[(("sequence", "known", "narrowness"), value) for value in (0, -1.0, "1", None)],
        *[(("sequence", "known", "weights"), value) for value in ([], [1.0], None, 3.0)],
        *[(("sequence", "known", "points", 0, 0), value) for value in ("1", None, [1.0])],
        *[(("pair", "bound"), value) for value in (0, "6", None)],
    ],
    ids=lambda one: str(one)[:40],
)
def test_damaged_checks_are_refused(checker: Checker, tmp_path: Path, path: tuple, value: object) -> None:
    file = tmp_path / "checks.json"
    save_checker(file, checker)
    stored = inner = json.loads(file.read_text())
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file.write_text(json.dumps(stored))
    with pytest.raises(InputError) as caught:
        load_checker(file)
    assert caught.value.where == str(file)


def test_checks_of_other_weights_are_refused_and_not_skipped(checker: Checker, tmp_path: Path) -> None:
    assert checker_of(tmp_path, checker.fingerprint) is None
    save_checker(tmp_path / "checks.json", checker)
    found = checker_of(tmp_path, checker.fingerprint)
    assert found is not None and found.fingerprint == checker.fingerprint
    with pytest.raises(InputError) as caught:
        checker_of(tmp_path, "0" * 64)
    assert caught.value.where == str(tmp_path / "checks.json")


def test_observations_of_a_known_abdomen() -> None:
    label, image = abdomen()
    seen = observe(image, label, np.ones(label.shape, np.float32), (6.0, 3.0, 3.0))
    assert seen["volume liver"] == pytest.approx(8 * 23 * 28 * 54 / 1000)
    assert seen["extent z"] == 48 and seen["extent y"] == 69 and seen["extent x"] == 84
    assert seen["signal spleen"] == pytest.approx(np.log(2)) and seen["signal aorta"] == pytest.approx(np.log(0.2))
    assert seen["kidneys z from the liver"] < -20, "kidneys lie below this liver"
    assert seen["liver x in the body"] < 0, "to the right"
    assert np.isnan(seen["signal gallbladder"]) and seen["below zero"] == 0


def test_observations_of_a_volume_without_anything() -> None:
    nothing = np.zeros((3, 16, 16), np.float32)
    seen = observe(nothing, np.zeros(nothing.shape, np.uint8), nothing, (5.0, 3.0, 3.0))
    assert seen["volume liver"] == 0 and np.isnan(seen["probability"]) and not np.isinf(list(seen.values())).any()


def _labelled(label: np.ndarray, image: np.ndarray, shift: float = 0.0, spacing: float = 6.0) -> Labelled:
    affine = np.array([[0, 0, -3.0, 0], [0, -3.0, 0, 0], [spacing, 0, 0, shift], [0, 0, 0, 1.0]])
    return Labelled(image, label, Grid(label.shape, affine))


def test_a_breath_is_taken_out_of_a_pair() -> None:
    label, image = abdomen(16)
    compared = compare(_labelled(label, image), _labelled(label, image.max() - image, shift=12.0))
    assert compared["shift"] == 12 and compared["overlap of the livers"] > 0.97
    twice = compare(_labelled(label, image), _labelled(label, image))
    assert twice["shift"] == 0 and twice["likeness of the images"] == pytest.approx(14)
    empty = compare(_labelled(label, image), _labelled(np.minimum(label, 0), image))
    assert all(np.isnan(value) for value in empty.values())


def test_the_fluid_of_the_spinal_canal_is_bright_on_t2w_and_dark_on_t1w() -> None:
    label, image = abdomen()
    canal = np.s_[:, 46:49, 38:42]
    found = {}
    for name, signal in (("T2W", 300.0), ("T1W", 5.0)):
        scan = image.copy()
        scan[canal] = signal
        found[name] = observe(scan, label, np.ones(image.shape, np.float32), (6.0, 3.0, 3.0))
        assert set(KNOWN) <= set(contrasts(found[name]))
    against, rank = CANAL
    assert found["T2W"][against] > np.log(3) and found["T2W"][rank] > 0.95
    assert found["T1W"][against] < np.log(1.5) and found["T1W"][rank] < 0.9
