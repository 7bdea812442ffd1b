"""What each term of a stage is worth at a site: found from how the terms go together there, without anybody's stage.

A model weighs the network's severity and organ measurements as they were worth on its own simulated patients. At
another site a measurement may tell more or less: an outline that fails there, a spleen that follows severity more
closely. All terms are signs of one thing, severity, so what a term has in common with the others says how well it tells
severity (the common factor of Spearman, American Journal of Psychology 1904;15:201; for classifiers without truth:
Parisi et al., PNAS 2014;111:1253). Each term is weighed with its loading on that factor.

Only as far as the site differs from home: `style_shift` is what another mixture of severities cannot explain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from cirrnb.model.measured_stage import MeasuredStage

LEAST_PATIENTS = 30
"""Patients of a site below which nothing is fitted."""
PRIOR_PATIENTS = 10.0
"""A map has the weight n / (n + this) against the identity, for n patients of the site."""
LEVELS = 41
"""Quantiles that are kept of each distribution."""
HALF_WAY = 0.35
"""Style shift, in standard deviations at home, at which a site counts half as another one."""
PRIOR_OF_LOADINGS = 50.0
"""Patients' worth of the loadings at home."""
_REACH = 3.0
"""Standard deviations at home beyond which a term shifts no further."""
_ITERATIONS = 100

Numbers = NDArray[np.float64]
Quantiles = tuple[float, ...]


@dataclass(frozen=True)
class SiteTerms:
    """What is known of a site's terms.

    Attributes
    ----------
    quantiles : term -> its `LEVELS` quantiles at the site, and among the patients the model was fitted to.
    weights : term -> log-odds towards later stages that a standard deviation at the site adds; negative where a later
        stage has less. Empty where the model's own weights are kept.
    blend : 0 to 1, how far the site counts as another one: the share of `weights` against the model's own.
    """

    quantiles: Mapping[str, tuple[Quantiles, Quantiles]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    blend: float = 1.0

    def mapped(self, values: Mapping[str, float], patients: int) -> dict[str, float]:
        """Each value mapped from the site to the patients the model was fitted to; those without a map as they are."""
        weight = self.blend * patients / (patients + PRIOR_PATIENTS)
        return {
            name: (1 - weight) * value + weight * through(value, *self.quantiles[name])
            if name in self.quantiles
            else value
            for name, value in values.items()
        }

    def contributions(self, values: Mapping[str, float], contributions: Mapping[str, float]) -> dict[str, float]:
        """Term -> log-odds that it adds at the site.

        `values` are as measured; `contributions` is term -> log-odds by the model's weights after the map.
        """
        if not self.weights:
            return dict(contributions)
        here = [name for name in contributions if name in self.weights]
        whole = sum(abs(weight) for weight in self.weights.values())
        part = sum(abs(self.weights[name]) for name in here)
        return {
            name: (1 - self.blend) * value
            + (self.blend * whole / part * self.weights[name] * self._score(name, values[name]) if name in here else 0)
            for name, value in contributions.items()
        }

    def _score(self, name: str, value: float) -> float:
        """Standard deviations from the site's middle, by ranks; beyond the site's range as at its end."""
        site = np.asarray(self.quantiles[name][0])
        place = float(np.interp(value, *strictly_rising(site, np.linspace(0, 1, len(site)))))
        edge = 0.5 / len(site)
        return float(norm.ppf(np.clip(place, edge, 1 - edge)))


def fit_site_terms(site: pd.DataFrame, home: pd.DataFrame, measured: MeasuredStage) -> SiteTerms:
    """Fit maps and weights of a site.

    Parameters
    ----------
    site, home : (patients, terms) at the site, and of the patients the model was fitted to; NaN where something was
        not measured.
    measured : how the model weighs the terms.

    Returns
    -------
    Maps of the terms with `LEAST_PATIENTS` values in both tables. Weights only if there are three such terms.
    """
    quantiles = term_quantiles(site, home)
    names = [name for name in measured.names if name in quantiles]
    if len(names) < 3:
        return SiteTerms(quantiles)
    signs = np.array([np.sign(measured.weight[measured.names.index(name)]) or 1.0 for name in names])
    scores, home_scores = _scores(site[names]) * signs, _scores(home[names]) * signs
    at_home = loadings(home_scores)
    blend = site_blend(style_shift(site[names] * signs, home[names] * signs, at_home))
    count = len(site)
    shared = (count * loadings(scores) + PRIOR_OF_LOADINGS * at_home) / (count + PRIOR_OF_LOADINGS)
    shared = np.clip(shared, 0, None)
    maps = SiteTerms(quantiles, blend=blend)
    severities = []
    for _, row in site[names].iterrows():
        values = {str(name): float(value) for name, value in row.dropna().items()}
        severities.append(sum(measured.contributions(maps.mapped(values, count)).values()))
    gain = float(np.std(severities) / max(np.std(scores @ shared), 1e-6))
    weights = {name: float(gain * weight) for name, weight in zip(names, signs * shared, strict=True)}
    return SiteTerms(quantiles, weights, blend)


def term_quantiles(site: pd.DataFrame, home: pd.DataFrame) -> dict[str, tuple[Quantiles, Quantiles]]:
    """Term -> quantiles at the site and at home, of those with `LEAST_PATIENTS` values in both."""
    levels = np.linspace(0, 1, LEVELS)
    quantiles: dict[str, tuple[Quantiles, Quantiles]] = {}
    for name in site:
        at_site = site[name].dropna().to_numpy(float)
        at_home = home[name].dropna().to_numpy(float) if name in home else at_site[:0]
        if min(len(at_site), len(at_home)) >= LEAST_PATIENTS:
            site_quantiles, home_quantiles = (
                tuple(np.quantile(values, levels).tolist()) for values in (at_site, at_home)
            )
            quantiles[str(name)] = (site_quantiles, home_quantiles)
    return quantiles


def loadings(scores: Numbers) -> Numbers:
    """(terms,) correlations with the factor that all terms share, of (patients, terms) normal scores.

    Principal axis factoring of one factor; -0.97 to 0.97, positive for most terms.
    """
    spread = scores.std(axis=0)
    usable = spread > 1e-9
    correlations = np.zeros(scores.shape[1])
    if usable.sum() < 2:
        return correlations
    related = np.atleast_2d(np.corrcoef(scores[:, usable].T))
    shared = np.full(len(related), 0.7)
    for _ in range(_ITERATIONS):
        reduced = related.copy()
        np.fill_diagonal(reduced, shared**2)
        values, vectors = np.linalg.eigh(reduced)
        shared = vectors[:, -1] * np.sqrt(max(values[-1], 1e-9))
        shared = np.clip(shared * (np.sign(shared.sum()) or 1.0), -0.97, 0.97)
    correlations[usable] = shared
    return correlations


def style_shift(site: pd.DataFrame, home: pd.DataFrame, at_home: Numbers) -> float:
    """How far a site's terms lie from home beyond what another mixture of severities explains, in standard deviations.

    Both tables are (patients, terms), each term rising with severity; `at_home` are their loadings. If patients are
    only more or less ill, the means move along the loadings. The rest, as a root mean square over the terms and less
    what chance gives so few patients, is the shift.
    """
    centre, spread = home.mean().to_numpy(float), home.std().clip(lower=1e-9).to_numpy(float)
    moved = np.clip((site.to_numpy(float) - centre) / spread, -_REACH, _REACH)
    shift = np.nan_to_num(np.nanmean(moved, axis=0))
    along = float(shift @ at_home / max(at_home @ at_home, 1e-9))
    rest = shift - along * at_home
    return float(np.sqrt(max(0.0, (rest**2).mean() - 1 / max(1, len(site)))))


def site_blend(shift: float) -> float:
    """0 (home) to 1 (another site): one half at `HALF_WAY`."""
    return float(shift**4 / (shift**4 + HALF_WAY**4))


def through(value: float, site: Sequence[float], home: Sequence[float]) -> float:
    """The quantile at home at which the value lies at the site; beyond the site's range it goes on from its end."""
    levels = np.linspace(0, 1, len(site))
    inside = float(np.clip(value, site[0], site[-1]))
    place = np.interp(inside, *strictly_rising(np.asarray(site), levels))
    return float(np.interp(place, levels, home)) + value - inside


def strictly_rising(values: Numbers, levels: Numbers) -> tuple[Numbers, Numbers]:
    """Without equal values: their levels are averaged."""
    unique, member = np.unique(values, return_inverse=True)
    return unique, np.bincount(member, weights=levels) / np.bincount(member)


def _scores(table: pd.DataFrame) -> Numbers:
    """(patients, terms) normal scores by rank; 0 where a value is missing."""
    ranks = (table.rank() - 0.5).to_numpy(float) / table.notna().sum().to_numpy(float)
    return np.asarray(np.nan_to_num(norm.ppf(ranks)))
