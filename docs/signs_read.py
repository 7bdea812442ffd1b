"""Notes in a model which signs it reads: `python docs/signs_read.py COHORT OUT MODEL`.

COHORT is one of `cirrnb simulate --population independent`, OUT the folder of score_stager.py, which staged it with the
model in the folder MODEL. The AUROC of each sign is written into signs.json; answers and fingerprint do not change.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
from score_stager import signs

from cirrnb.data.csv_file import read_csv
from cirrnb.model.trained_model import load_model


def main() -> None:
    """Write and print."""
    folder, out, where = map(Path, sys.argv[1:4])
    model = load_model(where)
    latent = read_csv(folder / "latent.csv", ("subject", "patient"), expected="a simulated cohort", remedy="")
    answers = pd.read_csv(out / f"{folder.name}-{model.fingerprint[:16]}.csv", dtype={"subject": str})
    table = signs(answers, latent.set_index("subject").loc[answers["subject"]].reset_index()).dropna(subset=["auroc"])
    assert model.sign_intervals is not None, "a model without intervals of signs"
    read = {name: round(value, 3) for name, value in zip(table["sign"], table["auroc"], strict=True)}
    replace(model.sign_intervals, read=read).save(where)
    print(read)


if __name__ == "__main__":
    main()
