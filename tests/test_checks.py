"""The four checks: scores, thresholds, reasons, missing organs, stored and read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.segmentation.check_fitting import AGAINST, NOTHING, PRESENCE, SEQUENCE, UPSIDE_DOWN, fit, thresholds_of
from cirrnb.segmentation.checks import Checker, load_checker, save_checker, worst
from cirrnb.segmentation.judging import checker_of
from cirrnb.segmentation.observations import CANAL, observe
from cirrnb.segmentation.pairs import PAIR, Labelled, compare
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


def rows(kind: str, liver: float, count: int, random: np.random.Generator, place: float) -> list[dict]:
    found = []
    for number in range(count):
        row = {name: random.normal(place, 4.0 if kind == "random" else 1.0) for name in SEQUENCE}
        row |= {name: random.normal(2.0 if liver else -2.0, 1.0) for name in PRESENCE}
        row |= {name: random.normal(-40, 20) for name in UPSIDE_DOWN}
        row |= {f"liver as it stands against {name}": random.normal(1.5, 0.5) for name in ("mirrored", "front to back")}
        found.append({"kind": kind, "body": number, "liver": liver, **row})
    return found


@pytest.fixture(scope="module")
def checker() -> Checker:
    random = np.random.default_rng(1)
    seen = rows("T1W", 1500.0, 120, random, 0.0) + rows("T2W", 1500.0, 120, random, 4.0)
    seen += rows("random", 1500.0, 60, random, 2.0) + rows(NOTHING, 0.0, 60, random, 0.0)
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
                else {**rows(kind, 1500.0, 1, random, 0.0 if kind == "T1W" else 4.0)[0], "body": -1}
            )
    return fit(seen, pairs, "f" * 64)


def good(place: float = 0.0) -> dict[str, float]:
    row = dict.fromkeys(SEQUENCE, place) | dict.fromkeys(PRESENCE, 2.0) | dict.fromkeys(UPSIDE_DOWN, -40.0)
    return row | {"liver as it stands against mirrored": 1.5, "liver as it stands against front to back": 1.5}


def outcomes(
    checker: Checker, observed: dict[str, float], declared: str = "T1W", person: bool = False
) -> dict[str, str]:
    return {check.name: check.outcome for check in checker.check_scan(observed, declared, person)}


def test_right_input_passes_and_each_fault_fails_its_own_check(checker: Checker) -> None:
    assert outcomes(checker, good()) == {"presence": "passed", "sequence": "passed", "side": "passed"}
    no_liver = good() | dict.fromkeys(PRESENCE, -2.0)
    assert outcomes(checker, no_liver)["presence"] == "refused"
    assert outcomes(checker, good(4.0))["sequence"] == "doubtful", "the sequence check refuses nothing by itself"
    assert outcomes(checker, good(4.0), "T2W")["sequence"] == "passed"
    assert outcomes(checker, good() | {"liver as it stands against mirrored": -1.5})["side"] == "refused"
    assert outcomes(checker, good() | dict.fromkeys(UPSIDE_DOWN, 40.0))["side"] == "refused"
    assert [worst(checker.check_scan(one, "T1W")) for one in (no_liver, good(4.0))] == ["refused", "doubtful"]


def test_a_reason_names_the_sequence_that_a_scan_looks_like(checker: Checker) -> None:
    swapped = next(check for check in checker.check_scan(good(4.0), "T1W") if check.name == "sequence")
    assert "T2W" in swapped.reason and swapped.remedy
    neither = next(check for check in checker.check_scan(good(40.0), "T1W") if check.name == "sequence")
    assert neither.outcome == "doubtful" and "neither" in neither.reason


def test_presence_is_not_asked_where_a_person_drew_the_liver(checker: Checker) -> None:
    assert "presence" not in outcomes(checker, good(), person=True)


def test_missing_organs_leave_the_rest_to_judge(checker: Checker) -> None:
    few = good() | dict.fromkeys(SEQUENCE[:6], NAN) | dict.fromkeys(UPSIDE_DOWN, NAN)
    assert outcomes(checker, few) == {"presence": "passed", "sequence": "passed", "side": "passed"}
    nothing = dict.fromkeys(good(), NAN) | dict.fromkeys(PRESENCE, -2.0)
    assert np.isnan(next(check.score for check in checker.check_scan(nothing, "T1W") if check.name == "sequence"))
    assert outcomes(checker, nothing)["presence"] == "refused"


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


def test_stored_checks_judge_as_before(checker: Checker, tmp_path: Path) -> None:
    save_checker(tmp_path / "checks.json", checker)
    again = load_checker(tmp_path / "checks.json")
    for observed in (good(), good(4.0), good() | dict.fromkeys(PRESENCE, -2.0)):
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
        (("presence",), {"names": ["a"], "weights": [1], "mean": [0], "scale": [1], "absent": [0], "intercept": 0}),
        *[(("presence", "intercept"), value) for value in ("nan", True, None, [0.0])],
        *[(("presence", "names", 0), value) for value in ("size of the lever", 5, None)],
        *[(("presence", "scale", 0), value) for value in (0, -1.0, "1")],
        *[(("pair", "weights", 0), value) for value in ("nan", False, [1.0], 1e300)],
        (("sequence",), None),
        *[(("sequence", "classes"), value) for value in (["other"], ["T1W", "T1W", "other"], "T1W")],
        (("sequence", "classes"), ["T1W", "T2W", "x"]),
        *[(("sequence", "weights", 0, 0), value) for value in ("1", None, [1.0])],
        (("sequence", "names", 0), "signal of nothing"),
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
        assert set(SEQUENCE) <= set(found[name])
    against, rank = CANAL
    assert found["T2W"][against] > np.log(3) and found["T2W"][rank] > 0.95
    assert found["T1W"][against] < np.log(1.5) and found["T1W"][rank] < 0.9
