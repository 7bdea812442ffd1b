"""Training, validation and test patients. A split belongs to a patient, never to a scan or a slice.

Every function returns new cohorts, is deterministic, and depends neither on the order of the scans nor on the
machine: patients are shuffled by a hash of seed and subject. Patients without a stage, such as
healthy subjects, have no split (None): they can neither be stratified nor trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from cirrnb.data.errors import InputError, InputErrors, listed
from cirrnb.data.scan import SPLITS, Cohort

CONFLICTS = ("t2", "t1", "drop")


def official(cohort: Cohort, conflicts: str | None = None) -> Cohort:
    """The split that the cohort's own folders or table give, one per patient.

    The published T1W and T2W splits disagree for seven patients, so that a model of both sequences would test on
    patients it was trained on. Choose what happens to such patients:

    - "t2": the patient stands where the T2W scan stands. The reference paper's policy (Zeng et al., arXiv
      2502.18225), which moreover used patients with both sequences only (234 / 28 / 29): for those,
      `cohort.select(keep=cohort.patients.query("T1W and T2W").index)`.
    - "t1": the patient stands where the T1W scan stands.
    - "drop": the patient stands in no split, as with "t1" and "t2" one whose sequences disagree without that scan.

    Patients with one sequence stand where that scan stands; healthy subjects stay without a split.

    Raises
    ------
    InputErrors
        If the sequences of a patient stand in different splits and `conflicts` is None; all are named.
    ValueError
        If `conflicts` is another word.
    """
    if conflicts not in (None, *CONFLICTS):
        raise ValueError(f"conflicts is None or one of {CONFLICTS}, not {conflicts!r}")
    stated = _stated(cohort)
    disputed = _disputed(stated)
    if disputed and conflicts is None:
        remedy = 'Name a policy: official(cohort, conflicts="t2") as the reference paper does, "t1" or "drop".'
        raise InputErrors([_disputed_error(cohort, disputed, remedy)])
    chosen: dict[str, str | None] = {}
    for subject, splits in stated.items():
        if subject not in disputed:
            chosen[subject] = next(iter(splits.values()), None)
        else:
            chosen[subject] = splits.get({"t2": "T2W", "t1": "T1W"}.get(conflicts or "", ""))
    return cohort.with_splits(chosen)


def paper(cohort: Cohort) -> Cohort:
    """The patients of Zeng et al. 2025 (arXiv 2502.18225): those with a stage and both T1W and T2W, where the T2W scan
    stands, 234 / 28 / 29 in the published cohort. Raises InputError if nobody is left in a split."""
    divided = official(cohort, conflicts="t2")
    missing = [name for name in ("T1W", "T2W") if name not in divided.patients]
    table = divided.patients
    both = table[table["T1W"] & table["T2W"] & table["stage"].notna() & table["split"].notna()] if not missing else None
    counts = [] if both is None else [int((both["split"] == name).sum()) for name in SPLITS]
    if both is None or 0 in counts:
        problem = f"no {' and '.join(missing)}" if missing else f"{counts} such patients in {', '.join(SPLITS)}"
        expected = "patients with T1W, T2W and a stage in each of the published splits"
        raise InputError(cohort.name, problem, expected, "Choose another split: --split random, or official.")
    return divided.select(keep=[str(subject) for subject in both.index])


def limited(cohort: Cohort, most: int | None) -> Cohort:
    """Keep at most `most` patients of each stage in each split, the first ones; None keeps all."""
    if most is None:
        return cohort
    table = cohort.patients
    table = table[table["split"].notna() & table["stage"].notna()]
    return cohort.select(keep=[str(subject) for subject in table.groupby(["split", "stage"]).head(most).index])


def random(cohort: Cohort, fractions: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0) -> Cohort:
    """Split the patients with a stage at random into train, valid and test, stratified by stage.

    `fractions` are the proportions of the three, summing to one.

    Raises InputError if a split with a proportion above 0 would be empty, ValueError if `fractions` are not three
    proportions that sum to one.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions are the shares of {SPLITS} and sum to 1, not {tuple(fractions)}")
    chosen = _share(_shuffled(cohort, f"random {seed}"), dict(zip(SPLITS, fractions, strict=True)))
    empty = [name for name, share in zip(SPLITS, fractions, strict=True) if share and name not in chosen.values()]
    if empty:
        raise InputError(
            cohort.name,
            f"{len(chosen)} patients with a stage, too few: no patient would stand in {' and '.join(empty)}",
            "at least one patient in every split that has a share",
            "Set that share to 0 or bring more patients.",
        )
    return cohort.with_splits(chosen)


def kfold(cohort: Cohort, folds: int = 5, seed: int = 0, valid: float = 0.0) -> list[Cohort]:
    """`folds` cohorts in which every patient with a stage is tested once, stratified by stage.

    In each, one fold is "test", the others "train"; with `valid` that share of the training patients, stratified
    too, is "valid" instead. Folds differ by one patient at most.

    Raises InputError if there are fewer patients with a stage than folds, ValueError for fewer than two folds or
    a share outside [0, 1).
    """
    if folds < 2 or not 0 <= valid < 1:
        raise ValueError(f"folds is at least 2 and valid a share below 1, not {folds} and {valid}")
    order = _shuffled(cohort, f"kfold {seed}")
    if len(order) < folds:
        raise InputError(
            cohort.name,
            f"{len(order)} patients with a stage",
            f"at least one for each of {folds} folds",
            "Ask for fewer folds or bring more patients.",
        )
    # Patients come stage by stage, so that every fifth one is stratified and the folds are even.
    return [_tested(cohort, order, set(order[fold::folds]), valid) for fold in range(folds)]


def fold(cohort: Cohort, number: int, folds: int = 5, seed: int = 0, valid: float = 0.0) -> Cohort:
    """Fold `number` of `kfold`, counted from 1. Raises as `kfold`, and InputError where there is no such fold."""
    if not 1 <= number <= folds:
        raise InputError(
            "fold", str(number), f"a number from 1 to {folds}", "Name one of the folds, or set folds to 0."
        )
    return kfold(cohort, folds, seed, valid)[number - 1]


def leave_one_out(cohort: Cohort, column: str = "scanner", seed: int = 0, valid: float = 0.0) -> dict[str, Cohort]:
    """For each value of an extra column, a cohort in which the patients of that value test and all others train.

    It measures a stager on a scanner, or at a site, that it has never seen. With `valid`, that share of the training
    patients, stratified by stage, is "valid" instead. Patients without a value stand in no split.

    Raises
    ------
    InputError
        If no scan has the column, all patients with a stage have one value, or scans of a patient have different
        values.
    ValueError
        If `valid` is no share below 1.
    """
    if not 0 <= valid < 1:
        raise ValueError(f"valid is a share below 1, not {valid}")
    values: dict[str, set[str]] = {}
    for scan in cohort.scans:
        value = scan.extra.get(column)
        if scan.stage is not None and value not in (None, ""):
            values.setdefault(scan.subject, set()).add(str(value))
    if ambiguous := [
        f"{subject} ({', '.join(sorted(values[subject]))})" for subject in sorted(values) if len(values[subject]) > 1
    ]:
        raise InputError(
            cohort.name,
            f"{len(ambiguous)} patients with more than one {column}: {'; '.join(ambiguous)}",
            f"one {column} for each patient, so that no patient trains and tests",
            "Exclude these patients, or one of their sequences.",
        )
    group = {subject: next(iter(stated)) for subject, stated in values.items()}
    names = sorted(set(group.values()))
    if len(names) < 2:
        columns = listed(sorted({name for scan in cohort.scans for name in scan.extra})) or "none"
        raise InputError(
            cohort.name,
            f"{column} {names[0]} throughout" if names else f"no column {column}; extra columns: {columns}",
            f"patients of at least two values of {column}",
            "Name another column, or add this one to the table of the cohort.",
        )
    order = [subject for subject in _shuffled(cohort, f"leave one out {seed}") if subject in group]
    return {
        name: _tested(cohort, order, {subject for subject in order if group[subject] == name}, valid) for name in names
    }


def _tested(cohort: Cohort, order: Sequence[str], test: Collection[str], valid: float) -> Cohort:
    """The cohort with some subjects in "test", and of the others a share `valid` in "valid" and the rest in "train"."""
    training = [subject for subject in order if subject not in test]
    chosen = _share(training, {"train": 1 - valid, "valid": valid})
    return cohort.with_splits({**chosen, **dict.fromkeys(test, "test")})


def check(cohort: Cohort) -> None:
    """Raise InputErrors if a patient is in two splits. Call it before a training."""
    disputed = _disputed(_stated(cohort))
    if disputed:
        remedy = "Make the split with official, random or kfold of cirrnb.data.splits."
        raise InputErrors([_disputed_error(cohort, disputed, remedy)])


def _stated(cohort: Cohort) -> dict[str, dict[str, str]]:
    """For each subject the split that each of its sequences names; scans that name none are skipped."""
    stated: dict[str, dict[str, str]] = {}
    for scan in cohort.scans:
        splits = stated.setdefault(scan.subject, {})
        if scan.split is not None:
            splits[scan.sequence] = scan.split
    return stated


def _disputed(stated: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {subject: splits for subject, splits in stated.items() if len(set(splits.values())) > 1}


def _disputed_error(cohort: Cohort, disputed: dict[str, dict[str, str]], remedy: str) -> InputError:
    names = "; ".join(
        f"{subject} ({', '.join(f'{sequence} {split}' for sequence, split in sorted(splits.items()))})"
        for subject, splits in sorted(disputed.items())
    )
    problem = f"{len(disputed)} patients whose sequences stand in different splits: {names}"
    return InputError(cohort.name, problem, "one split per patient", remedy)


def _shuffled(cohort: Cohort, salt: str) -> list[str]:
    """Subjects with a stage, stage by stage, each stage in the order of a hash."""
    stages = {scan.subject: scan.stage for scan in cohort.scans if scan.stage is not None}

    def rank(subject: str) -> tuple[int, bytes]:
        return cohort.stages.index(stages[subject] or ""), hashlib.sha256(f"{salt}/{subject}".encode()).digest()

    return sorted(stages, key=rank)


def _share(order: Sequence[str], shares: dict[str, float]) -> dict[str, str | None]:
    """Walk along the order and give each subject to the split that is furthest behind its share.

    Along a list sorted by stage this keeps the shares both within each stage and over all, where rounding stage by
    stage would add up.
    """
    chosen: dict[str, str | None] = {}
    given = dict.fromkeys(shares, 0)
    for place, subject in enumerate(order, start=1):
        split = max(shares, key=lambda name: shares[name] * place - given[name])
        given[split] += 1
        chosen[subject] = split
    return chosen
