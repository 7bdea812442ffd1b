"""What the scanner does to a model that learnt it: `python docs/fooled.py FOOLED OUT`.

FOOLED is the run that `tests/benchmarks/test_stager_benchmark.py` leaves in runs/shortcut (240 patients of seed 7 with
`--shortcut scanner`). Twenty patients of another seed, whose scanner tells nothing, are asked on both scanners, and the
scores are written beside those of the model that comes with the package.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cirrnb
from cirrnb.explanation.localisation import scanner_swap
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.model.trained_model import load_model
from cirrnb.simulation.cohort import SIMULATOR_VERSION

SEED, PATIENTS = 142, 20


def main(fooled: str, out: str) -> None:
    models = {
        "trained where the scanner tells the stage": load_model(fooled),
        "without the shortcut": load_model("shipped"),
    }
    with tempfile.TemporaryDirectory() as folder:
        people = cirrnb.simulate_cohort(Path(folder) / "cohort", patients=PATIENTS, seed=SEED)
        preparation = models["without the shortcut"].preparation
        ready = cirrnb.prepare(people, Path(folder) / "prepared", preparation, progress=False)
        table = scanner_swap(models, ready.bags(), SimulatedTruth(Path(folder) / "cohort"))
    heading = f"# python docs/fooled.py; simulator {SIMULATOR_VERSION}, {PATIENTS} patients of seed {SEED}\n"
    Path(out).write_text(heading + table.round(3).to_csv(index=False), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
