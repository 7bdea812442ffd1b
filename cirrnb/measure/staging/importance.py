"""What a classifier leans on: how much worse it gets when one group of features is exchanged between patients."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss

from cirrnb.measure.staging.classifiers import probabilities
from cirrnb.measure.staging.features import group_of
from cirrnb.measure.staging.opponents import Opponent


def importance(opponent: Opponent, *, split: str = "test", repeats: int = 20, seed: int = 0) -> pd.DataFrame:
    """Permutation importance of whole groups of features, in the field's words.

    Features of a family say much the same, so that exchanging one of them alone would show little (Strobl et al., BMC
    Bioinformatics 2008;9:307): a family of one sequence is exchanged as a whole, alike for all its features.

    Returns
    -------
    One row a group, the largest first: group, features (how many), loss (mean rise of the log loss on the patients of
    the split, in nats), sd (over the exchanges). At or below 0: it does without.
    """
    told = opponent.predictions.set_index("subject")
    asked = told[(told["split"] == split) & told["predicted"].notna()]
    features, truth = opponent.features.loc[asked.index], asked["stage"].map(opponent.stages.index)
    random, scale = np.random.default_rng(seed), opponent.stages

    def loss(table: pd.DataFrame) -> float:
        return float(log_loss(truth, probabilities(opponent.fitted, table, scale), labels=range(len(scale))))

    before, rows = loss(features), []
    groups = pd.Series(features.columns, index=features.columns).groupby(group_of)
    for group, columns in groups:
        found = []
        for _ in range(repeats):
            shuffled = features.copy()
            shuffled[list(columns)] = features[list(columns)].to_numpy()[random.permutation(len(features))]
            found.append(loss(shuffled) - before)
        rows.append({"group": group, "features": len(columns), "loss": np.mean(found), "sd": np.std(found, ddof=1)})
    table = pd.DataFrame(rows, columns=["group", "features", "loss", "sd"])
    return table.sort_values("loss", ascending=False, ignore_index=True)
