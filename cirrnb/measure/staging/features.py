"""From one row a scan to one row a patient, and what the columns are called in a reader's words."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from cirrnb.data.bag import PreparedCohort

FAMILIES = {
    "morph": "shape",
    "stat": "first order",
    "ih": "intensity histogram",
    "cm": "co-occurrence (GLCM)",
    "rlm": "run lengths (GLRLM)",
    "szm": "size zones (GLSZM)",
    "ngt": "tone differences (NGTDM)",
    "ngl": "grey level dependence (NGLDM)",
}
"""Beginning of a radiomic feature's name -> its family in words."""

DEMOGRAPHICS = ("age", "male")


def patient_features(values: pd.DataFrame, sequences: Collection[str] | None = None) -> pd.DataFrame:
    """One row a patient from one row a scan.

    Parameters
    ----------
    values : subject, sequence and one column a feature, as `cohort_radiomics` and `cohort_biomarkers` return.
    sequences : those to take; None takes all.

    Returns
    -------
    Indexed by subject, columns "T1W morph_volume" and so on; NaN where a patient lacks the sequence or the feature.
    Features that no patient has are left out. Every subject of `values` has a row, even if it lacks the sequence.
    """
    names = [name for name in values if name not in ("subject", "sequence")]
    subjects = list(dict.fromkeys(values["subject"]))
    parts = []
    for sequence in sorted(set(values["sequence"]) & set(sequences or values["sequence"])):
        part = values[values["sequence"] == sequence].set_index("subject")[names].reindex(subjects)
        parts.append(part.astype(float).add_prefix(f"{sequence} "))
    table = pd.concat(parts, axis=1).rename_axis("subject")
    return table.loc[:, table.notna().any()]


def demographics(prepared: PreparedCohort) -> pd.DataFrame:
    """Age in years and sex (1 male, 0 female) by subject; NaN where unknown."""
    rows = {bag.subject: (bag.age, None if bag.sex is None else float(bag.sex == "male")) for bag in prepared.bags()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(DEMOGRAPHICS), dtype=float).rename_axis("subject")


def group_of(column: str) -> str:
    """What a column belongs to, in words: "T2W run lengths (GLRLM)", "T1W surface nodularity", "age"."""
    sequence, space, name = column.rpartition(" ")
    family = FAMILIES.get(name.partition("_")[0])
    return f"{sequence} {family}" if space and family else column
