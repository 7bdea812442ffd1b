"""The tables of a run folder come back as they were written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cirrnb.data.errors import InputError
from cirrnb.model.run_folder import read_history, read_predictions, write_answers


def test_ids_stay_text(tmp_path: Path) -> None:
    table = pd.DataFrame({"subject": ["own/007"], "patient": ["007"], "stage": [None], "mild": [0.25]})
    table.to_csv(tmp_path / "predictions.csv", index=False)
    back = read_predictions(tmp_path)
    assert back["patient"].to_list() == ["007"] and back["mild"].to_list() == [0.25]
    assert back["stage"].isna().all()


@pytest.mark.parametrize("column", ["subject", "patient", "source", "split", "stage", "predicted", "sex"])
def test_what_is_missing_is_none_and_ids_named_na_are_ids(column: str, tmp_path: Path) -> None:
    write_answers(tmp_path / "predictions.csv", pd.DataFrame({column: ["NA", None, "x"], "mild": [0.5, 0.5, None]}))
    back = read_predictions(tmp_path)
    assert back[column].tolist() == ["NA", None, "x"] and back["mild"].isna().tolist() == [False, False, True]


def test_a_column_that_nobody_validated_is_missing_and_not_text(tmp_path: Path) -> None:
    pd.DataFrame({"epoch": [1], "valid_loss": [float("nan")]}).to_csv(tmp_path / "history.csv", index=False)
    assert read_history(tmp_path)["valid_loss"].dtype == float


@pytest.mark.parametrize("read", [read_history, read_predictions])
def test_what_is_no_run_folder_is_said(tmp_path: Path, read) -> None:
    with pytest.raises(InputError, match="no folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no readable"):
        read(tmp_path)
    for name in ("history.csv", "predictions.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="no readable"):
        read(tmp_path)
