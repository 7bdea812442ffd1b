"""Organs that the program draws against those of a simulated cohort: `python docs/score_organs.py COHORT OUT`.

COHORT was simulated with `--organs`. Outlines are drawn by the program for everybody, into OUT, which keeps them: a run
that was stopped goes on. Printed for each sequence: Dice with a bootstrap interval of 95 % over patients, rank
correlation of volumes with the truth, false ascites, and AUROC of the presence of ascites.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from score_stager import drawn_anew
from sklearn.metrics import roc_auc_score

import cirrnb
from cirrnb.data.atomic_files import file_stem
from cirrnb.data.nifti.reading import read_volume
from cirrnb.model.trained_model import load_model
from cirrnb.segmentation.segmenter import EXPECTED_ASCITES
from cirrnb.simulation.tissue_shares import LIVER, ORGANS

DRAWS = 2000
SOME_ASCITES = 50.0
"""mL from which a patient has ascites."""
OTHERS = ("spleen", "caudate", "kidneys", "gallbladder", "aorta", "portal and splenic vein")


def main() -> None:
    """Compare every scan and print."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    drawn_anew(folder, out, load_model("shipped"))
    drawn = out / f"prepared-{folder.name}" / "segmented" / "organs"
    rows = []
    for scan in cirrnb.read_cohort(folder).scans:
        truth, grid = read_volume(folder / "organs" / scan.source / scan.sequence / scan.image.name)
        record = next(drawn.glob(f"{file_stem(scan.subject, scan.sequence)}_*_organs.found.json"), None)
        if record is None:
            sys.exit(f"{scan.name}: no organs in {drawn}; delete {drawn} and start again")
        segmented, _ = read_volume(record.with_name(record.name.replace(".found.json", ".nii.gz")))
        recorded = json.loads(record.read_text())
        row = {"sequence": scan.sequence, "expected ascites": recorded["observed"][EXPECTED_ASCITES]}
        voxel = grid.voxel_volume / 1000
        parts = {"liver": LIVER, **{name: (label,) for label, name in enumerate(ORGANS, start=1)}}
        for name, labels in parts.items():
            true_mask, drawn_mask = np.isin(truth, labels), np.isin(segmented, labels)
            volumes = np.count_nonzero(true_mask), np.count_nonzero(drawn_mask)
            row[f"true {name}"], row[f"found {name}"] = volumes[0] * voxel, volumes[1] * voxel
            row[f"dice {name}"] = 2 * np.count_nonzero(true_mask & drawn_mask) / sum(volumes) if volumes[0] else np.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    for sequence, part in table.groupby("sequence"):
        print_sequence(str(sequence), part)


def print_sequence(sequence: str, part: pd.DataFrame) -> None:
    """Print the figures of a sequence."""
    has = part["true ascites"] > SOME_ASCITES
    ill = part[has]
    print(f"\n{sequence}, {len(part)} patients")
    for name in ("liver", *OTHERS):
        print(f"  Dice {name}: {with_interval(part[f'dice {name}'])}")
    print(f"  Dice ascites of more than {SOME_ASCITES:.0f} mL: {with_interval(ill['dice ascites'])}")
    for name in ("liver", "spleen"):
        print(f"  volume of {name}: {rank(part[f'found {name}'], part[f'true {name}'])}")
    ratios = [part[f"{kind} caudate"] / part[f"{kind} right lobe"] for kind in ("found", "true")]
    print(f"  caudate-to-right-lobe ratio: {rank(*ratios)}")
    print(f"  volume of ascites: {rank(ill['found ascites'], ill['true ascites'])}, n {len(ill)}")
    false = part["found ascites"][part["true ascites"] <= 0]
    print(f"  false ascites: mean {false.mean():.1f} mL, most {false.max():.0f} mL, n {len(false)}")
    for name, present in (("any", part["true ascites"] > 0), (f"more than {SOME_ASCITES:.0f} mL", has)):
        print(f"  presence of ascites, {name}: {auroc(present, part['expected ascites'])}")


def with_interval(values: pd.Series) -> str:
    """Mean, interval, least and count."""
    known = values.dropna().to_numpy()
    random = np.random.default_rng(0)
    low, high = np.percentile([random.choice(known, len(known)).mean() for _ in range(DRAWS)], [2.5, 97.5])
    return f"{known.mean():.3f} ({low:.3f} to {high:.3f}), least {known.min():.2f}, n {len(known)}"


def auroc(present: pd.Series, score: pd.Series) -> str:
    """AUROC with its interval, and how many have it."""
    pairs = pd.DataFrame({"present": present, "score": score}).to_numpy(float)
    random = np.random.default_rng(0)
    draws = []
    while len(draws) < DRAWS // 4:
        drawn = pairs[random.integers(len(pairs), size=len(pairs))]
        if 0 < drawn[:, 0].sum() < len(drawn):
            draws.append(roc_auc_score(drawn[:, 0], drawn[:, 1]))
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"AUROC {roc_auc_score(*pairs.T):.3f} ({low:.3f} to {high:.3f}), {int(present.sum())} of {len(pairs)}"


def rank(estimate: pd.Series, truth: pd.Series) -> str:
    """Rank correlation with its interval."""
    pairs = pd.DataFrame({"estimate": estimate, "truth": truth}).dropna().to_numpy()
    random = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS // 4):
        drawn = pairs[random.integers(len(pairs), size=len(pairs))]
        draws.append(spearmanr(drawn[:, 0], drawn[:, 1]).statistic)
    low, high = np.percentile(draws, [2.5, 97.5])
    value = spearmanr(pairs[:, 0], pairs[:, 1]).statistic
    return f"rank correlation {value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
