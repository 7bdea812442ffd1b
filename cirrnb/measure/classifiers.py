"""Classifiers in scikit-learn pipelines, fitted on training patients alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectPercentile, VarianceThreshold, f_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale

FEWEST_OF_A_STAGE = 2
"""Training patients of each stage without which nothing can be chosen among folds."""

INNER_FOLDS = 5


@dataclass(frozen=True)
class Classifier:
    """One way to tell stages from numbers.

    Attributes
    ----------
    make : the estimator, from a seed. settings : what is chosen among, by folds within the training patients.
    """

    make: Callable[[int], Any]
    settings: Mapping[str, list[Any]]


CLASSIFIERS = {
    "logistic regression": Classifier(
        lambda seed: LogisticRegression(max_iter=2000, random_state=seed),
        {"select__percentile": [10, 30, 100], "stage__C": [0.01, 0.1, 1.0]},
    ),
    "support vector machine": Classifier(
        lambda seed: CalibratedClassifierCV(SVC(random_state=seed), ensemble=False),
        {"select__percentile": [10, 30, 100], "stage__estimator__C": [0.3, 1.0, 3.0]},
    ),
    "random forest": Classifier(
        lambda seed: RandomForestClassifier(200, random_state=seed),
        {"stage__min_samples_leaf": [1, 3, 8]},
    ),
    "gradient boosting": Classifier(
        lambda seed: HistGradientBoostingClassifier(
            max_iter=100, max_leaf_nodes=7, l2_regularization=1.0, random_state=seed
        ),
        {"stage__learning_rate": [0.03, 0.1]},
    ),
}
"""By the name that readers see."""

FLOOR = Classifier(lambda seed: LogisticRegression(max_iter=2000, random_state=seed), {})
"""For a handful of features: nothing to select, nothing to tune."""

MAJORITY = Classifier(lambda seed: DummyClassifier(strategy="prior"), {})
"""The shares of the stages among training patients, for everybody."""


def pipeline(classifier: Classifier, seed: int = 0, changed: Mapping[str, pd.DataFrame] | None = None) -> Pipeline:
    """Everything that is fitted, in order: what is upset by the mask or does not vary is left out, gaps are filled with
    the training patients' median and marked in columns of their own, features are scaled, some selected."""
    steps = [
        ("stable", StableFeatures(changed)),
        ("fill", SimpleImputer(strategy="median", add_indicator=True)),
        ("vary", VarianceThreshold()),
        ("scale", StandardScaler()),
        ("select", SelectPercentile(f_classif, percentile=100)),
        ("stage", classifier.make(seed)),
    ]
    return Pipeline(steps)


def fit(
    classifier: Classifier,
    features: pd.DataFrame,
    stages: pd.Series,
    *,
    seed: int = 0,
    changed: Mapping[str, pd.DataFrame] | None = None,
    scale: StageScale = CIRRHOSIS,
) -> Any:
    """Fit on training patients, settings chosen by log loss over folds of them.

    Parameters
    ----------
    features : one row a patient, indexed by subject. stages : by the same subjects.
    changed : the features again with changed masks, for `StableFeatures`. scale : that the stages are of.

    Raises
    ------
    InputError
        If a stage has fewer than two training patients, or there is no feature at all.
    """
    counts = stages.value_counts()
    few = [stage for stage in scale if counts.get(stage, 0) < FEWEST_OF_A_STAGE]
    if few:
        raise InputError(
            "training patients",
            f"fewer than {FEWEST_OF_A_STAGE} of stage {', '.join(few)}",
            f"at least {FEWEST_OF_A_STAGE} of each stage",
            "Use a larger cohort.",
        )
    if not features.shape[1] and classifier is not MAJORITY:
        raise InputError("features", "none", "at least one", "See the reasons why nothing could be measured.")
    steps = pipeline(classifier, seed, changed)
    if classifier is MAJORITY:
        return steps.named_steps["stage"].fit(np.zeros((len(stages), 1)), stages)
    if not classifier.settings:
        return steps.fit(features, stages)
    folds = StratifiedKFold(min(INNER_FOLDS, int(counts.min())), shuffle=True, random_state=seed)
    return GridSearchCV(steps, dict(classifier.settings), scoring="neg_log_loss", cv=folds).fit(features, stages)


def probabilities(fitted: Any, features: pd.DataFrame, scale: StageScale = CIRRHOSIS) -> NDArray[np.float64]:
    """Stage probabilities (patients, stages), in the order of the scale."""
    predicted = fitted.predict_proba(features if features.shape[1] else np.zeros((len(features), 1)))
    return np.column_stack([predicted[:, list(fitted.classes_).index(stage)] for stage in scale])


def repeated(features: pd.DataFrame, stages: pd.Series, *, folds: int = 5, repeats: int = 20, seed: int = 0) -> NDArray:
    """Probabilities (repeats, patients, 3) of mild, moderate, severe by `FLOOR`, each patient's from the folds without
    it."""
    result = np.empty((repeats, len(stages), len(CIRRHOSIS)))
    division = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
    for number, (training, held) in enumerate(division.split(features, stages)):
        fitted = fit(FLOOR, features.iloc[training], stages.iloc[training], seed=seed)
        result[number // folds, held] = probabilities(fitted, features.iloc[held])
    return result


GOOD = 0.75
"""Agreement from which Koo & Li call it good (J. Chiropractic Medicine 2016;15:155)."""

FEWEST = 10
"""Fewest patients for whom agreement is estimated; with fewer, every feature is kept."""


def agreement(values: NDArray[np.float64]) -> float:
    """Intraclass correlation of single measurements, two-way random, absolute agreement: ICC(2,1).

    `values` (patients, measurements), at least two of each. 1 is full agreement; NaN where nothing varies. Shrout &
    Fleiss, Psychological Bulletin 1979;86:420.
    """
    patients, times = values.shape
    whole = values.mean()
    between = times * ((values.mean(axis=1) - whole) ** 2).sum() / (patients - 1)
    shifts = patients * ((values.mean(axis=0) - whole) ** 2).sum() / (times - 1)
    total = ((values - whole) ** 2).sum()
    rest = (total - between * (patients - 1) - shifts * (times - 1)) / ((patients - 1) * (times - 1))
    below = between + (times - 1) * rest + times * (shifts - rest) / patients
    return float((between - rest) / below) if below > 0 else float("nan")


class StableFeatures(TransformerMixin, BaseEstimator):
    """Keeps the columns whose values agree when the mask is changed a little.

    Parameters
    ----------
    changed : name of a change -> table indexed by subject with the same columns, of any patients. Those of them that
        are among the rows given to `fit` are looked at, and no others, so that nothing leaks out of the fold.
    least : agreement from which a column is kept.
    """

    def __init__(self, changed: Mapping[str, pd.DataFrame] | None = None, least: float = GOOD):
        self.changed = changed
        self.least = least

    def fit(self, x: pd.DataFrame, y: Any = None) -> StableFeatures:
        """Find the columns to keep; `x` is indexed by subject."""
        tables = [table.reindex(columns=x.columns) for table in (self.changed or {}).values()]
        known = x.index
        for table in tables:
            known = known.intersection(table.index)
        if not tables or len(known) < FEWEST:
            self.kept_ = list(x.columns)
            return self
        stack = np.stack([table.loc[known].to_numpy(dtype=float) for table in (x, *tables)], axis=-1)
        agreements = [self._agreement(stack[:, column]) for column in range(stack.shape[1])]
        # What was not measured again cannot be called upset by it.
        self.kept_ = [name for name, value in zip(x.columns, agreements, strict=True) if not value < self.least]
        return self

    @staticmethod
    def _agreement(values: NDArray[np.float64]) -> float:
        whole = values[np.isfinite(values).all(axis=1)]
        return agreement(whole) if len(whole) >= FEWEST else float("nan")

    def transform(self, x: pd.DataFrame) -> pd.DataFrame:
        """The kept columns."""
        return x[self.kept_]

    def get_feature_names_out(self, names: Any = None) -> NDArray[np.object_]:
        """Names of the kept columns."""
        return np.array(self.kept_, dtype=object)
