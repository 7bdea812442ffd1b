"""The reference paper's figures, and what stands in the way of comparing one's own with them.

Zeng et al., *Liver cirrhosis stage estimation from MRI with deep learning*, arXiv 2502.18225, 2025.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from cirrnb.evaluation.evaluation import Evaluation

SOURCE = "Zeng et al. 2025, arXiv 2502.18225"

BEST: dict[str, float] = {"T1W": 0.728, "T2W": 0.638}
"""Best accuracy of the paper for each sequence: the share of slices, given without an interval."""


def beside_published(own: Evaluation, slices: pd.DataFrame | None = None) -> pd.DataFrame:
    """Accuracy here and in the reference paper, how each was counted, and whether the two may be compared.

    Parameters
    ----------
    own : of the stager, by patient.
    slices : the row of `slice_accuracy`, where the stager answers slice by slice.

    Returns
    -------
    One row a figure: who, accuracy, low, high (NaN where nobody gave an interval), counted ("slice" or "patient"),
    patients ("real" or "simulated"), comparable (with the paper, in words).
    """
    rows: list[dict[str, Any]] = [
        {"who": f"{SOURCE}, {sequence}", "accuracy": value, "counted": "slice", "patients": "real", "comparable": ""}
        for sequence, value in BEST.items()
    ]
    kind = "simulated" if own.simulated else "real"
    by_patient = own.table[own.table["metric"] == "accuracy"].iloc[0]
    reasons = ["counted by patient", *(["simulated patients"] if own.simulated else [])]
    rows.append({"who": "this stager", "accuracy": by_patient["value"], "low": by_patient["low"]})
    rows[-1] |= {"high": by_patient["high"], "counted": "patient", "patients": kind}
    rows[-1] |= {"comparable": f"no: {' and '.join(reasons)}"}
    if slices is not None:
        row = slices.iloc[0]
        rows.append({"who": "this stager, as the paper counts", "accuracy": row["value"], "low": row["low"]})
        rows[-1] |= {"high": row["high"], "counted": "slice", "patients": kind}
        rows[-1] |= {
            "comparable": "no: simulated patients" if own.simulated else "only on its test patients and its sequence"
        }
    return pd.DataFrame(rows, columns=["who", "accuracy", "low", "high", "counted", "patients", "comparable"])
