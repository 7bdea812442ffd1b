"""Numbers that people read have no power of ten where a plain one is as short."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_phantoms import T2, write_series
from hypothesis import given
from hypothesis import strategies as st

import cirrnb
from cirrnb.data.dicom.importing import import_dicom, list_series
from cirrnb.data.numbers import figure
from cirrnb.run.dicom import listing


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        *((15200, 4, "15200"), (15234, 4, "15234"), (1e6, 4, "1000000"), (123.456, 3, "123"), (99999.6, 4, "100000")),
        *((9999.9, 4, "10000"), (4.2, 4, "4.2"), (92, 3, "92"), (0, 4, "0"), (-12345.6, 3, "-12346")),
        *((0.00002, 4, "0.00002"), (0.000012345, 3, "0.0000123"), (-0.00002, 4, "-0.00002"), (999.99, 3, "1000")),
        *((1e-30, 3, "1e-30"), (3e20, 3, "3e+20"), (float("nan"), 4, "nan"), (float("inf"), 4, "inf")),
    ],
)
def test_by_hand(value: float, digits: int, text: str) -> None:
    assert figure(value, digits) == text


@given(st.floats(-1e14, 1e14), st.integers(1, 6))
def test_the_number_is_the_same_to_its_digits(value: float, digits: int) -> None:
    assert float(figure(value, digits)) == pytest.approx(value, rel=10.0 ** (1 - digits), abs=1e-300)
    assert "e" not in figure(value, digits) or abs(value) < 1e-9


def test_a_long_repetition_time_is_told_and_written_plainly(tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", {**T2, "RepetitionTime": 15200.0})
    looked = list_series(tmp_path / "dicom")
    assert any("TR 15200 ms" in line for line in listing(looked))
    import_dicom(looked, tmp_path / "own")
    (scan,) = cirrnb.read_cohort(tmp_path / "own").scans
    assert scan.extra["tr_ms"] == "15200" and "TR 15200 ms" in scan.extra["chosen_because"]
