"""How many patients of a site are answered, before and after adaptation: `python docs/site_status.py SITE OUT`.

SITE is a cohort of another style with stages; outlines are drawn anew by the program. The shipped model is adapted to
one half of the patients without their stages and stages the other half, for which status, accuracy and prediction sets
are printed. OUT keeps the prepared scans.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from score_stager import drawn_anew

import cirrnb
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.status import ANSWERED
from cirrnb.model.adapt import adapt
from cirrnb.model.trained_model import load_model


def half(cohort: PreparedCohort, subjects: set[str]) -> PreparedCohort:
    """The cohort with these patients alone."""
    return replace(cohort, scans=tuple(prepared for prepared in cohort.scans if prepared.scan.subject in subjects))


def describe(name: str, predictions: pd.DataFrame) -> None:
    """Print shares of the patients, and how often each kind of reason occurs."""
    sets = predictions["set"].fillna("").str.split("|")
    answered = predictions["status"] == ANSWERED
    covered = [stage in possible for stage, possible in zip(predictions["stage"], sets, strict=True)]
    right = predictions["predicted"] == predictions["stage"]
    print(f"\n{name}: {len(predictions)} patients, {int(answered.sum())} answered ({answered.mean():.3f})")
    print(f"accuracy {right.mean():.3f}; recorded stage in the set {np.mean(covered):.3f}")
    print(f"{sets.map(len).mean():.2f} stages in a set")
    kinds: Counter[str] = Counter()
    for reasons in predictions.loc[~answered, "reasons"]:
        kinds.update(set(re.findall(r"(?:^|\| )(\w+):", reasons)))
    print("reasons, patients: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()))


def main() -> None:
    """Prepare, adapt, stage, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    cohort = drawn_anew(given.site, given.out, load_model("shipped"))
    subjects = np.random.default_rng(0).permutation(sorted(bag.subject for bag in cohort.bags(staged=True)))
    middle = len(subjects) // 2
    others = half(cohort, set(subjects[middle:]))
    describe("as it is", cirrnb.predict("shipped", others, progress=False))
    with tempfile.TemporaryDirectory() as folder:
        adapted = adapt("shipped", half(cohort, set(subjects[:middle])), out=Path(folder) / "adapted", progress=False)
        describe(f"adapted to {middle} others, without stages", cirrnb.predict(adapted, others, progress=False))


if __name__ == "__main__":
    main()
