"""Grey values of the simulated sequences: the equations by hand, contrasts against what was measured in real files."""

from dataclasses import replace

import numpy as np
import pytest

from cirrnb.simulation.fields import Points
from cirrnb.simulation.signal import Protocol, acquire, draw_protocol, receive_field, tissue_signals
from cirrnb.simulation.tissue import TISSUES

PLAIN = Protocol("T1W", "1.5 T", 4.0, 1.5, 12.0, 1.0, 1.0, (1.0, 1.0), 0.05, 0.5, 0.1, 0.0, 1000.0)

RATIOS = {
    # Ratios to liver over many protocols; in brackets what was measured: the ranges have to enclose it.
    ("T2W", "spleen"): (1.3, 2.7),  # 1.72, 1.92, 2.16 on three slices, 1.1 to 1.4 on the Toshiba scan
    ("T2W", "marrow"): (1.3, 3.8),  # 1.67, 2.25, 2.8
    ("T2W", "muscle"): (0.25, 0.85),  # 0.51 to 0.83
    ("T2W", "ascites"): (3.0, 12.0),  # 4.49; far above it where the echo is late
    ("T2W", "renal cortex"): (1.5, 4.2),  # 2.06, 2.6
    ("T1W", "spleen"): (0.9, 1.6),
    ("T1W", "muscle"): (0.3, 0.8),
    ("T1W", "portal vein"): (1.1, 2.2),
    ("T1W", "ascites"): (0.03, 0.35),
    ("T1W", "bile"): (0.03, 0.4),
    ("T1W", "renal cortex"): (1.2, 2.3),
}


def protocols(sequence, count=300):
    random = np.random.default_rng(11)
    return [draw_protocol(random, sequence, field) for _ in range(count // 2) for field in ("1.5 T", "3 T")]


def test_gradient_echo_by_hand():
    liver = TISSUES["liver"]
    rate = 1 / 586 + 4.6 * 0.36 / 1000
    recovery, angle = np.exp(-4.0 * rate), np.deg2rad(12)
    steady = np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery)
    expected = 6.0 * liver.density * steady * np.exp(-1.5 / 23)
    assert tissue_signals(PLAIN)["liver"] == pytest.approx(expected)


def test_spin_echo_by_hand_with_flow_void_and_bright_fat():
    late = replace(PLAIN, sequence="T2W", repetition=3000.0, echo=90.0, inflow=(0.05, 0.4))
    signals = tissue_signals(late)
    assert signals["liver"] == pytest.approx(0.82 * (1 - np.exp(-3000 / 586)) * np.exp(-90 / 46))
    blood = 0.92 * (1 - np.exp(-3000 / 1441)) * np.exp(-90 / 290)
    assert signals["artery"] == pytest.approx(0.05 * blood)
    assert signals["portal vein"] == pytest.approx(0.4 * blood)
    suppressed = tissue_signals(replace(late, fat_kept=0.1))
    assert suppressed["fat"] == pytest.approx(0.1 * signals["fat"])
    assert suppressed["liver"] == signals["liver"]


@pytest.mark.parametrize(("sequence", "tissue"), sorted(RATIOS))
def test_contrast_lies_within_the_stated_range(sequence, tissue):
    low, high = RATIOS[sequence, tissue]
    plain = [p for p in protocols(sequence) if tissue != "marrow" or p.fat_kept == 1]
    ratios = [signals[tissue] / signals["liver"] for signals in map(tissue_signals, plain)]
    assert low <= np.percentile(ratios, 1) and np.percentile(ratios, 99) <= high


def test_fat_is_bright_on_t2w_unless_suppressed_and_dark_on_t1w():
    unsuppressed = [tissue_signals(p) for p in protocols("T2W") if p.fat_kept == 1]
    suppressed = [tissue_signals(p) for p in protocols("T2W") if p.fat_kept < 1]
    assert 0.15 < len(suppressed) / (len(suppressed) + len(unsuppressed)) < 0.45
    assert min(s["fat"] / s["liver"] for s in unsuppressed) > 2.5
    assert max(s["fat"] / s["liver"] for s in suppressed) < 2.2
    assert max(s["fat"] / s["liver"] for s in map(tissue_signals, protocols("T1W"))) < 0.7


def test_noise_is_rician_in_air_and_has_the_wanted_strength_in_tissue():
    quiet = replace(PLAIN, noise=0.08, blur=0.3)
    signal = np.zeros((60, 50, 8), np.float32)
    signal[30:] = 5.0
    image = acquire(np.random.default_rng(0), quiet, signal, liver=1.0)
    air, tissue = image[5:25, 5:-5], image[35:55, 5:-5]
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / 2) / np.sqrt(2 - np.pi / 2), rel=0.1)
    assert tissue.std() == pytest.approx(0.08, rel=0.2)
    assert tissue.mean() == pytest.approx(5.0, abs=0.02)


def test_ghosts_appear_along_the_phase_axis_only():
    signal = np.zeros((40, 48, 3), np.float32)
    signal[10:14, 22:26] = 10.0
    image = acquire(np.random.default_rng(1), replace(PLAIN, noise=1e-4, ghost=0.07), signal, liver=1.0)
    outside = image.max(axis=2)
    assert outside[18:].max() < 0.01
    assert outside[10:14, :18].max() > 0.05


def test_receive_field_is_smooth_and_positive():
    axes = [np.arange(size, dtype=np.float32) * 8 - 4 * size for size in (40, 30, 20)]
    shading = receive_field(np.random.default_rng(2), PLAIN, Points((axes[0], axes[1], axes[2])), (0.0, 0.0))
    assert shading.min() > 0.4
    assert np.abs(np.diff(np.log(shading), axis=0)).max() < 0.1
