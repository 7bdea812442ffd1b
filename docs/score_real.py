"""What the program says of real T2W scans of healthy people.

`python docs/score_real.py OUT SCAN... [--not-a-liver SCAN...]`. Each SCAN is image_NUMBER.nii.gz of CHAOS, with
label_NUMBER.nii.gz beside it (1 liver, 2 and 3 kidneys, 4 spleen). Asked at once: Dice of the organs, how much of the
liver lies outside the view, status and reasons of the checks, stage, set and signs, and whether planted signs are
followed. Of scans without a liver: whether they are refused. Written as answers.csv and planted.csv in OUT. Where files
are kept for scoring, write a row into docs/real_scorings.md.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import planted_signs

import cirrnb
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.scan import Cohort, Scan
from cirrnb.model.trained_model import TrainedModel, load_model
from cirrnb.segmentation.segmenter import Segmenter

ORGANS = {"liver": (1,), "kidneys": (2, 3), "spleen": (4,)}
"""Organ of the segmenter -> labels of CHAOS."""
SEQUENCE = "T2W"


def dice(drawn: np.ndarray, truth: np.ndarray) -> float:
    both = float(drawn.sum() + truth.sum())
    return float(2 * (drawn & truth).sum() / both) if both else float("nan")


def outside(truth: np.ndarray, affine: np.ndarray, prepared: PreparedScan) -> float:
    """Share of the true liver outside the view."""
    places = np.argwhere(truth) @ affine[:3, :3].T + affine[:3, 3]
    index = np.linalg.solve(prepared.grid.affine, np.c_[places, np.ones(len(places))].T)[:3].T
    return float(1 - ((index > -0.5) & (index < np.array(prepared.grid.shape) - 0.5)).all(axis=1).mean())


def scan_row(path: Path, out: Path, model: TrainedModel, segmenter: Segmenter) -> dict[str, object]:
    """The row of results of one scan."""
    row: dict[str, object] = {"scan": path.name.removesuffix(".nii.gz")}
    cohort = Cohort((Scan(str(row["scan"]), SEQUENCE, path),))
    strict = cirrnb.prepare(cohort, out / "prepared", model.preparation, progress=False, workers=1)
    try:
        [first] = cirrnb.predict(model, strict).to_dict("records")
    except (InputError, InputErrors) as error:  # a cohort of one, who is refused
        first = {"status": "refused", "reasons": str(error)}
    row |= {"status": first["status"], "reasons": first["reasons"]}
    labels = path.with_name(path.name.replace("image_", "label_"))
    if labels == path or not labels.is_file():
        return row
    volume, grid = read_volume(path)
    truth, _ = read_volume(labels)
    segmentation = segmenter.segment(volume, grid)
    row |= {f"dice {name}": dice(segmentation.organ(name), np.isin(truth, numbers)) for name, numbers in ORGANS.items()}
    forced = cirrnb.prepare(cohort, out / "prepared", model.preparation, force=True, progress=False, workers=1)
    row["liver outside the view"] = outside(truth == 1, grid.affine, forced.scans[0])
    [prediction] = cirrnb.predict(model, forced).to_dict("records")
    stages = list(model.stages)
    row |= {name: prediction.get(name) for name in (*stages, "predicted", "set", "no_sign")}
    return row | {name: value for name, value in prediction.items() if str(name).startswith("sign ")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--not-a-liver", type=Path, nargs="*", default=[])
    parser.add_argument("--model", default="shipped")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    model, segmenter = load_model(given.model), Segmenter.load()
    print(f"stager {model.fingerprint[:16]}, {segmenter.drawn_by}, n = {len(given.scans)}")
    table = pd.DataFrame([scan_row(path, given.out, model, segmenter) for path in [*given.scans, *given.not_a_liver]])
    write_csv(given.out / "answers.csv", table)
    print(table.T.to_string())
    numbers = [name for name in table if str(name).startswith(("dice", "liver outside"))]
    print(table[numbers].agg(["mean", "min", "max"]).round(3).to_string())
    planted_answers = planted_signs.answers(
        planted_signs.planted(given.out / "planted", given.scans, SEQUENCE), given.model
    )
    write_csv(given.out / "planted.csv", planted_answers)
    summary = planted_signs.summary(planted_answers)
    print(summary.pivot(index="sign", columns="person", values="rank correlation").round(2).to_string())
    reached = (summary["rank correlation"] >= 0.7).groupby(summary["sign"]).sum()
    print(f"persons of {len(given.scans)} with at least 0.7, by sign:\n{reached.to_string()}")


if __name__ == "__main__":
    main()
