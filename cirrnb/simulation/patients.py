"""Who is in a simulated cohort: ids, splits, stages, age, sex, body and disease, each patient drawn on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.stats import norm

from cirrnb.data.scan import SPLITS
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.simulation import liver, organs, published
from cirrnb.simulation.body import HIDDEN, Body, draw_body
from cirrnb.simulation.populations import BENCHMARK, Population
from cirrnb.simulation.signs import NO_SIGN, Latent

HEALTHY_STREAM = 1_000_000
LOG_SIZE = (-0.13, 0.18)
"""Mean and spread of the logarithm of a body's volume against the canonical one, over many drawn bodies."""


@dataclass(frozen=True)
class Plan:
    """One patient to be simulated.

    Attributes
    ----------
    index : place in the cohort; with the seed it determines everything about the patient.
    patient : id. source : "cirrhotic" or "healthy". splits : sequence -> split (None for healthy subjects).
    stage : the stage it has to have, or None to draw one.
    listed : False if the complete table leaves the stage empty.
    """

    index: int
    patient: str
    source: str
    splits: dict[str, str | None]
    stage: str | None = None
    listed: bool = True


def plan(scale: str, patients: int | None, healthy: int | None, seed: int) -> list[Plan]:
    """The cohort's patients in order. Published places for the scales tiny and full, unless fewer are asked for."""
    if scale == "small":
        plans = _drawn(48 if patients is None else patients, seed)
    else:
        places = published.places()[:patients]
        plans = [
            Plan(index, str(place.patient), "cirrhotic", dict(place.splits), place.stage, "T2W" in place.splits)
            for index, place in enumerate(places)
        ]
    ids = published.HEALTHY[: len(published.HEALTHY) if healthy is None and scale != "small" else healthy or 0]
    return plans + [
        Plan(HEALTHY_STREAM + order, str(number), "healthy", dict.fromkeys(T1W_T2W)) for order, number in enumerate(ids)
    ]


def _drawn(patients: int, seed: int) -> list[Plan]:
    """Ids with gaps, and a split in string-sorted order of ids, 80 / 10 / 10 like the published one."""
    gaps = np.random.default_rng([seed, 7]).integers(1, 4, size=patients)
    ids = [str(number) for number in np.cumsum(gaps)]
    held = max(1, round(patients / 10)) if patients >= 3 else 0
    order = sorted(ids)
    cuts = [SPLITS[0]] * (patients - 2 * held) + [SPLITS[1]] * held + [SPLITS[2]] * held
    splits = dict(zip(order, cuts, strict=True))
    return [
        Plan(index, patient, "cirrhotic", dict.fromkeys(T1W_T2W, splits[patient])) for index, patient in enumerate(ids)
    ]


@dataclass(frozen=True)
class Patient:
    """Everything that is true of one simulated patient before any scanner comes in; volumes in mL."""

    plan: Plan
    age: int
    sex: str
    latent: Latent | None
    body: Body
    liver_volume: float
    spleen_volume: float

    @property
    def stage(self) -> str | None:
        return self.latent.stage if self.latent else None


HEALTHY_LAW = 2
"""Law of the volumes of healthy subjects: 1 gave all of them those of one fixed severity, 2 those of patients without a
sign, so that no volume tells who is healthy from who is ill without showing it."""


def draw_patient(plan: Plan, seed: int, population: Population = BENCHMARK, healthy_law: int = HEALTHY_LAW) -> Patient:
    """One patient. Age, sex, body and scanner are drawn from streams that know nothing of the disease.

    `healthy_law` 1 gives healthy subjects of cohorts that were simulated before there was another.
    """
    random = np.random.default_rng([seed, plan.index, 1])
    sex = "male" if random.random() < published.MALE_SHARE else "female"
    shares, ages = zip(*published.AGE_QUANTILES, strict=True)
    age = int(np.interp(random.random(), shares, ages))
    body = draw_body(random, int(random.integers(2**31)), sex, age)
    wide, plump = random.standard_normal(2)
    latent = draw_latent(plan, seed, population)
    severity = latent.severity if latent else _severity_without_signs(_disease(plan, seed), population, healthy_law)
    if latent:
        body = replace(body, shown=latent.shown)
    size = float((np.log(np.prod(body.scale)) - LOG_SIZE[0]) / LOG_SIZE[1])
    wanted = _liver_volume(severity, 0.45 * size + 0.89 * float(wide))
    body = liver.solve_size(body, wanted)
    spleen = float(np.exp(np.log(205) + 0.26 * plump + 0.08 * size))
    plain = organs.solve_spleen(replace(body, shown=dict(HIDDEN)), spleen).spleen_size
    grown = min(1500.0, spleen * float(np.exp(1.25 * body.shown["spleen"])))
    body = replace(organs.solve_spleen(body, grown), plain_spleen=plain)
    return Patient(plan, age, sex, latent, body, liver.volume(body), organs.spleen_volume(body))


def draw_latent(plan: Plan, seed: int, population: Population = BENCHMARK) -> Latent | None:
    """The disease of one patient, which costs a thousandth of the whole patient; None of a healthy subject."""
    return population.draw_latent(_disease(plan, seed), plan.stage) if plan.source == "cirrhotic" else None


def _disease(plan: Plan, seed: int) -> np.random.Generator:
    """The stream from which a patient's disease is drawn, whatever else is drawn."""
    return np.random.default_rng([seed, plan.index, 2])


def _severity_without_signs(random: np.random.Generator, population: Population, law: int) -> float:
    """A severity at which a patient of the population shows no sign."""
    if law == 1:
        return -1.2
    while True:
        drawn = population.draw_latent(random)
        if max(drawn.shown.values()) < NO_SIGN:
            return drawn.severity


def _liver_volume(severity: float, deviation: float) -> float:
    """mL: the published medians at the stages' median severities, a line between them and beyond, and their spread.

    Beyond mild the liver stays as it is; beyond severe it goes on shrinking, else the severe median would lie too high.
    """
    first, second = BENCHMARK.thresholds
    cuts = (0.0, norm.cdf(first), norm.cdf(second), 1.0)
    middles = [norm.ppf((a + b) / 2) for a, b in pairwise(cuts)]
    medians = [np.log(published.LIVER_VOLUME[stage]) for stage in CIRRHOSIS]
    middles.append(2 * middles[-1] - middles[-2])
    medians.append(2 * medians[-1] - medians[-2])
    spreads = [published.LIVER_VOLUME_SPREAD[stage] for stage in (*CIRRHOSIS, CIRRHOSIS[-1])]
    median, spread = np.interp(severity, middles, medians), np.interp(severity, middles, spreads)
    return float(np.clip(np.exp(median + spread * np.clip(deviation, -2.5, 2.5)), 480, 3200))


def row(patient: Patient, scanners: dict[str, str]) -> dict[str, object]:
    """The patient's row of latent.csv."""
    body, latent = patient.body, patient.latent
    record: dict[str, object] = {
        "subject": f"{patient.plan.source}/{patient.plan.patient}",
        "patient": patient.plan.patient,
        "source": patient.plan.source,
        "index": patient.plan.index,
        "stage": patient.stage or "",
        "severity": latent.severity if latent else "",
        "impression": latent.impression if latent else "",
    }
    shown = body.shown
    record |= {f"channel_{name}": (latent.channels[name] if latent else "") for name in shown}
    record |= {f"shown_{name}": value for name, value in shown.items()}
    record |= {
        "age": patient.age,
        "sex": patient.sex,
        "liver_volume_ml": patient.liver_volume,
        "spleen_volume_ml": patient.spleen_volume,
        "fat_mm": body.fat,
        **{f"scale_{axis}": value for axis, value in zip("xyz", body.scale, strict=True)},
        **scanners,
    }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in record.items()}


def plan_from(stored: dict[str, object]) -> Plan:
    """The plan that `asdict` took apart."""
    return Plan(**stored)  # type: ignore[arg-type]
