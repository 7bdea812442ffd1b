"""For whom the shipped model works: `python docs/subgroups.py [FOLDER]` writes the section into its card.

Simulates 400 patients of a seed that nothing was developed or scored on, asks the model that comes with the package,
and counts by age and by sex. FOLDER keeps the cohort; without it a temporary one is used.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pandas as pd

import cirrnb
from cirrnb.data.atomic_files import atomic_write
from cirrnb.evaluation.evaluation import by_group
from cirrnb.model import shipping
from cirrnb.model.trained_model import SHIPPED, load_model
from cirrnb.simulation.cohort import SIMULATOR_VERSION

SEED, PATIENTS = 4001, 400
BANDS = {"under 50": (0, 50), "50 to 59": (50, 60), "60 to 69": (60, 70), "70 and over": (70, 200)}
SHOWN = ("accuracy", "quadratic weighted kappa")
TITLE = "## By age and sex"


def predictions(folder: Path) -> pd.DataFrame:
    """Predictions of the shipped model for the fresh cohort, with each patient's age band and sex."""
    people = cirrnb.simulate_cohort(folder / "fresh", patients=PATIENTS, seed=SEED)
    ready = cirrnb.prepare(people, folder / "fresh-prepared", load_model("shipped").preparation)
    predictions = cirrnb.predict("shipped", ready).assign(split="test")
    return predictions.merge(known(ready.bags()), on="subject")


def known(bags: list) -> pd.DataFrame:
    """subject, sex and age band."""
    rows = [{"subject": bag.subject, "sex": bag.sex, "age": band(bag.age)} for bag in bags]
    return pd.DataFrame(rows)


def band(age: float | None) -> str | None:
    """The name of the band that an age lies in."""
    return None if age is None else next(name for name, (low, high) in BANDS.items() if low <= age < high)


def section(predictions: pd.DataFrame) -> str:
    """The card's section: all patients, and each group with its intervals."""
    everybody = by_group(predictions.assign(all="all"), "all")
    tables = [everybody, by_group(predictions, "sex"), by_group(predictions, "age")]
    lines = [f"| group | patients | {' | '.join(SHOWN)} |", "|---|---|---|---|"]
    for table in tables:
        names = list(table["group"].unique())
        for group in sorted(names, key=lambda name: list(BANDS).index(name) if name in BANDS else -1):
            metrics = table[table["group"] == group].set_index("metric")
            cells = [
                f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
                for _, row in metrics.loc[list(SHOWN)].iterrows()
            ]
            lines.append(f"| {group} | {metrics.loc['accuracy', 'n']:.0f} | {' | '.join(cells)} |")
    rows = "\n".join(lines)
    return f"""\
{TITLE}

{PATIENTS} other simulated patients (seed {SEED}, simulator {SIMULATOR_VERSION}), with 95 % intervals. In the simulator
neither age nor sex changes the disease, so that a difference between groups is chance or the body's build; of people
this says nothing. `python docs/subgroups.py` makes this table anew.

{rows}
"""


def put_into_card(text: str, card: Path) -> None:
    """Replace the section of the card, or add it at its place before the settings."""
    content = card.read_text(encoding="utf-8")
    without = re.sub(rf"{TITLE}\n.*?(?=\n## )", "", content, flags=re.DOTALL).replace("\n\n\n", "\n\n")
    atomic_write(card, without.replace("\n## Made by", f"\n{text}\n## Made by", 1))


def main() -> None:
    card = Path(shipping.__file__).parent / SHIPPED / shipping.CARD
    if len(sys.argv) > 1:
        put_into_card(section(predictions(Path(sys.argv[1]))), card)
        return
    with tempfile.TemporaryDirectory() as folder:
        put_into_card(section(predictions(Path(folder))), card)


if __name__ == "__main__":
    main()
