"""What a model says of signs planted into real healthy scans: `python docs/planted_signs.py OUT SCAN... [--model RUN]`.

Each sign is planted at five strengths, and all of them together; the rest of the scan stays. Printed are rank
correlations between the strength that was planted and what the model says, within each person. OUT keeps the scans, so
that another model can be asked about the same ones; scans that are there already are not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from scipy.stats import spearmanr

import cirrnb
from cirrnb.model.trained_model import load_model
from cirrnb.segmentation.planted_scans import plant_file
from cirrnb.simulation.planting import PLANTED

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TOGETHER = "all"
OUTPUTS = {"nodules": "nodules_t2w"}
"""Sign outputs that are not called as the planted sign is, on T2W."""


def planted(out: Path, scans: list[Path], sequence: str) -> pd.DataFrame:
    """One row a scan: person, sign, strength, folder; planted now where the folder does not exist."""
    rows = []
    for scan in scans:
        person = scan.name.removesuffix(".nii.gz")
        for sign in (*PLANTED, TOGETHER):
            for strength in STRENGTHS:
                if strength == 0 and sign != TOGETHER:
                    continue
                folder = out / f"{person}-{sign}-{strength:.2f}"
                if not (folder / "scans.csv").is_file():
                    wanted = dict.fromkeys(PLANTED if sign == TOGETHER else [sign], strength)
                    plant_file(scan, folder, sequence, wanted)
                rows.append((person, sign, strength, folder))
    return pd.DataFrame(rows, columns=["person", "sign", "strength", "folder"])


def answers(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """The table with the predictions of the model: the strength of the planted sign, and the expected stage, 0 to 2."""
    trained = load_model(model)
    predictions = {}
    for folder in table["folder"]:
        cohort = cirrnb.read_cohort(folder / "scans.csv")
        predictions[folder] = cirrnb.predict(trained, cohort, prepared=folder / "prepared", force=True).iloc[0]
    rows = []
    for (person, sign), group in table.groupby(["person", "sign"], sort=False):
        nothing = table[(table["person"] == person) & (table["strength"] == 0)]
        for row in pd.concat([nothing, group[group["strength"] > 0]]).itertuples():
            prediction = predictions[row.folder]
            stage = float(sum(place * prediction[name] for place, name in enumerate(trained.stages)))
            column = f"sign {OUTPUTS.get(sign, sign)}"
            rows.append((person, sign, row.strength, prediction.get(column), stage, prediction["predicted"]))
    return pd.DataFrame(rows, columns=["person", "sign", "strength", "output", "stage", "predicted"])


def summary(predictions: pd.DataFrame) -> pd.DataFrame:
    """Rank correlations with the planted strength, by person and sign; of all signs together, that of the stage."""
    rows = []
    for (person, sign), group in predictions.groupby(["person", "sign"], sort=False):
        what = "stage" if sign == TOGETHER else "output"
        rows.append((person, sign, what, spearmanr(group["strength"], group[what].astype(float))[0]))
    return pd.DataFrame(rows, columns=["person", "sign", "what", "rank correlation"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--sequence", default="T2W")
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--plant-only", action="store_true")
    given = parser.parse_args()
    table = planted(given.out, given.scans, given.sequence)
    if given.plant_only:
        return
    predictions = answers(table, given.model)
    predictions.to_csv(given.out / "answers.csv", index=False)
    print(predictions.round(3).to_string(index=False))
    print(summary(predictions).round(2).pivot(index="sign", columns="person", values="rank correlation").to_string())


if __name__ == "__main__":
    main()
