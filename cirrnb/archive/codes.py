"""Codes of what DICOM results say: SNOMED CT and DCM where there is a code, the package's own scheme elsewhere."""

from __future__ import annotations

import re

from cirrnb.data.dicom.conversion import LIVER, SCHEME
from cirrnb.data.status import ANSWERED, DOUBTFUL, REFUSED

Code = tuple[str, str, str]
"""Code value, coding scheme, code meaning."""

VOLUME: Code = ("118565006", "SCT", "Volume")
LENGTH: Code = ("410668003", "SCT", "Length")
PROBABILITY: Code = ("122157", "DCM", "Probability")
COMMENT: Code = ("121106", "DCM", "Comment")
LIVER_SITE: Code = ("10200004", "SCT", "Liver")
CIRRHOSIS: Code = ("19943007", "SCT", "Cirrhosis of liver")
STAGE: Code = ("cirrhosis-stage", SCHEME, "Stage of cirrhosis")
STATUS: Code = ("status", SCHEME, "Status of the answer")
REASON: Code = ("reason", SCHEME, "Reason for the status")
SET: Code = ("prediction-set", SCHEME, "Stages that are possible (prediction set)")
NO_SIGN: Code = ("no-sign", SCHEME, "Every sign shows less than 0.1")
YES: Code = ("373066001", "SCT", "Yes")
NO: Code = ("373067005", "SCT", "No")

ORGANS: dict[str, tuple[str, str, str, str]] = {
    "liver": LIVER,
    "spleen": ("spleen", "78961009", "SCT", "Spleen"),
    "caudate": ("caudate", "71133005", "SCT", "Caudate lobe of liver"),
    "muscle": ("back muscle", "44947003", "SCT", "Erector spinae muscle"),
    "right lobe": ("right lobe", "48521005", "SCT", "Right lobe of liver"),
    "ascites": ("ascites", "389026000", "SCT", "Ascites"),
}
"""Organ -> label, code value, scheme and meaning of its segment."""

ASCITES_CATEGORY: Code = ("91720002", "SCT", "Body Substance")

MEASUREMENTS: dict[str, tuple[str, Code]] = {
    "liver volume": ("liver", VOLUME),
    "surface nodularity": ("liver", ("nodularity", SCHEME, "Surface nodularity")),
    "sphericity": ("liver", ("sphericity", SCHEME, "Sphericity (Wadell)")),
    "signal heterogeneity": ("liver", ("heterogeneity", SCHEME, "Signal heterogeneity")),
    "liver-to-spleen signal": ("liver", ("liver-spleen-sig", SCHEME, "Signal of liver to spleen, ratio")),
    "liver-to-muscle signal": ("liver", ("liver-muscle-sig", SCHEME, "Signal of liver to back muscle, ratio")),
    "spleen volume": ("spleen", VOLUME),
    "spleen length": ("spleen", LENGTH),
    "ascites volume": ("ascites", VOLUME),
    "liver-to-spleen volume": ("liver", ("liver-spleen-vol", SCHEME, "Volume of liver to spleen, ratio")),
    "caudate-to-right-lobe volume": ("caudate", ("caudate-right", SCHEME, "Volume of caudate to right lobe, ratio")),
}
"""Measurement -> the organ it is of, and its code."""

UNITS: dict[str, Code] = {
    "mL": ("mL", "UCUM", "milliliter"),
    "mm": ("mm", "UCUM", "millimeter"),
    "%": ("%", "UCUM", "percent"),
    "": ("1", "UCUM", "no units"),
}

STATUSES: dict[str, Code] = {
    ANSWERED: ("answered", SCHEME, "Answered"),
    DOUBTFUL: ("doubtful", SCHEME, "Doubtful"),
    REFUSED: ("refused", SCHEME, "Refused"),
}


def private_code(word: str, meaning: str | None = None) -> Code:
    """A code of the package's private coding scheme for a term; a meaning has at most 64 characters."""
    value = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")
    return value, SCHEME, (meaning or word)[:64]
