"""Dice and volume of the program's livers against a cohort's own masks: `python docs/score_liver.py COHORT DRAWN [N]`.

DRAWN is the folder of prepared scans whose outlines the program drew anew (score_stager.py leaves one as
OUT/prepared-COHORT); N takes the first scans alone. Printed for each sequence: mean Dice with a bootstrap interval of
95 % over patients, least, and rank correlation of the volumes. A scan without a liver counts with a Dice of 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import cirrnb
from cirrnb.data.atomic_files import file_stem
from cirrnb.data.nifti.reading import read_mask, read_volume

DRAWS = 2000


def main() -> None:
    cohort, drawn = cirrnb.read_cohort(sys.argv[1]), Path(sys.argv[2]) / "segmented" / "masks"
    scans = [scan for scan in cohort.scans if scan.mask][: int(sys.argv[3]) if len(sys.argv) > 3 else None]
    rows = []
    for scan in scans:
        _, grid = read_volume(scan.image)
        assert scan.mask is not None
        truth = read_mask(scan.mask, grid)
        found = next(drawn.glob(f"{file_stem(scan.subject, scan.sequence)}_*_liver.nii.gz"), None)
        mask = read_mask(found, grid) if found else np.zeros_like(truth)
        both = int((truth & mask).sum())
        dice = 2 * both / (int(truth.sum()) + int(mask.sum()))
        rows.append(
            (scan.sequence, dice, float(truth.sum()) * grid.voxel_volume, float(mask.sum()) * grid.voxel_volume)
        )
    table = pd.DataFrame(rows, columns=["sequence", "dice", "true volume", "volume"])
    random = np.random.default_rng(0)
    for sequence, own in table.groupby("sequence"):
        dice = own["dice"].to_numpy()
        low, high = np.percentile([random.choice(dice, len(dice)).mean() for _ in range(DRAWS)], [2.5, 97.5])
        rank = float(spearmanr(own["volume"], own["true volume"]).statistic)
        print(
            f"{sequence}: n = {len(own)}, Dice {dice.mean():.3f} ({low:.3f} to {high:.3f}), least {dice.min():.3f}, "
            f"rank correlation of volumes {rank:.3f}"
        )


if __name__ == "__main__":
    main()
