"""What a DICOM series is: T1W, T2W, a part of a Dixon acquisition, a reformat, or something computed from images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cirrnb.data.dicom.series import Series
from cirrnb.data.dicom.series_faults import find_fault
from cirrnb.data.numbers import figure
from cirrnb.data.sequence_words import PARTS_NOT_STAGED, SequenceWords, read_name

MAPS = {
    "an ADC map": r"E?ADC",
    "a diffusion-weighted image": r"TRACEW?|DIFFUSION|C?DWI",
    "an anisotropy map": r"FA",
    "a phase image": r"P|PHASE|PHASE_MAP|R|REAL|I|IMAGINARY|B0|FIELD_?MAP",
    "a projection (MIP)": r"PROJECTION_IMAGE|MIP|MINIP|MIN_?IP|MAX_?IP|CSA_MIP",
    "a subtraction image": r"SUB|SUBT|SUBTR|SUBTRACT(ION|ED)?",
    "a localizer": r"LOCALIZER|SCOUT",
    "a fat-fraction map": r"FAT_FRACTION|FF|PDFF|FATFRAC",
    "an R2* map": r"R2_?(STAR)?|R2\*",
    "a T2* map": r"T2_?STAR(_?MAP)?|T2\*(_?MAP)?",
    "a T1 map": r"T1_?MAP",
    "a T2 map": r"T2_?MAP",
    "a perfusion map": r"PERFUSION|CBF|CBV|MTT|TMAX|KTRANS|KEP|VE|VP|I?AUC\d*",
    "a map of enhancement": r"PEI?\d*|SER\d*|WASH_?(IN|OUT)|TTP|SLOPE|ENHANCEMENT",
    "a screenshot": r"SCREEN_?(SAVE|SHOT)|SECONDARY_CAPTURE|REPORT",
}
"""What a series is that is no anatomical image -> values of ImageType, after the first two, that say so."""

_REFORMAT = re.compile(r"(CSA_)?MPR(_.*)?|REFORMAT(TED)?|RESAMPLED|CURVED(_MPR)?")
_NO_IMAGES = (
    *("a subtraction image", "a parameter map", "a fat-fraction map", "a projection", "a localizer", "a phase image"),
)
"""Kinds of series that are no anatomical image, by the words of `cirrnb.data.sequence_words` in their names."""

_DIXON = {
    "fat": r"F|FAT|FAT_ONLY",
    "water": r"W|WATER|WATER_ONLY",
    "opposed-phase": r"OP|OPP|OPP_?PHASE|OUT_?PHASE|OUT_OF_PHASE|OPPOSED_?PHASE",
    "in-phase": r"IP|IN_?PHASE",
}
"""Values of ImageType of the images of a Dixon acquisition."""

_APART = 3.4e-6
"""Chemical shift between water and fat; they are opposed where it has turned them half a turn apart."""
_PROTON = 42.577e6
"""Hz that a proton turns in a field of one tesla."""

MODALITIES = {"CT": "CT", "US": "ultrasound", "PT": "PET", "NM": "scintigraphy", "SEG": "a segmentation", "CR": "X-ray"}

_OTHER_PARTS = re.compile(
    r"brain|head|skull|neck|c-?spine|t-?spine|l-?spine|knee|shoulder|hip\b|wrist|ankle|foot|hand|elbow|breast|heart"
    r"|cardiac|prostate",
    re.IGNORECASE,
)
_DIFFUSION = re.compile(r"\b(e?adc|dwi|diff\w*|trace\w*|ivim)\b|(?<![a-z])b[ _-]?\d{2,4}(?![a-z0-9])", re.IGNORECASE)
_MIXED = re.compile(r"tru?fi|true ?fisp|fiesta|b-?tfe|b-?ffe|balanced", re.IGNORECASE)
_STAR = re.compile(r"t2 ?\*|t2[_ -]?star|r2[_ -]?star|swi\b", re.IGNORECASE)
_BILE = re.compile(r"mrcp|cholangio|hydro", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """What a series is for staging.

    Attributes
    ----------
    sequence : "T1W", "T2W", or None.
    sure : True if it can be taken without a question.
    why : in words.
    never : True if it can be staged under no name: it is no anatomical MR image of one volume.
    remedy : what to do where it cannot be staged.
    doubts : what makes the series worth a question although it can be staged, in words.
    part : which image of a Dixon acquisition it is, see `part_of`.
    """

    sequence: str | None
    sure: bool
    why: str
    never: bool = False
    remedy: str = "Choose another series."
    doubts: tuple[str, ...] = ()
    part: str | None = None


def judge(series: Series) -> Verdict:
    """Which sequence a volume is, how sure that is, and why.

    The reasons hold no free text of the file: they are written to tables, and a description may name a person.
    """
    tags = series.tags
    if (kind := _no_image(series)) is not None:
        return Verdict(None, True, kind, never=True, remedy="Choose a T1-weighted or T2-weighted MR series.")
    read = _read_name(series)
    reformat = "a multiplanar reformat" if _is_reformat(series, read) else ""
    if (fault := find_fault(series)) is not None:
        return Verdict(None, True, f"{reformat}: {fault[0]}" if reformat else fault[0], never=True, remedy=fault[1])
    if (computed := next((kind for kind in read.other if kind in _NO_IMAGES), None)) is not None:
        derived = "DERIVED" in _values(tags)[:1]
        return Verdict(None, True, f"{computed}, by its name", never=derived)
    timed, timing = _by_timing(tags)
    named = read.weighting
    part = part_of(series)
    doubts = [*([f"{reformat}, not as acquired"] if reformat else []), *_doubts(series, part)]
    sequence = timed or named
    if timed and named and timed != named:
        return Verdict(None, False, f"{timing}, which speaks for {timed}, but its name says {named}")
    if sequence is None:
        return Verdict(None, False, timing if timing else "weighting unknown from timing and name")
    why = [timing] if timed else ["no conclusive timing"]
    why += [f"named {named}"] if named else []
    why += [f"{part} image of a Dixon acquisition"] if part and part not in PARTS_NOT_STAGED else []
    sure = timed is not None and not doubts
    return Verdict(sequence, sure, "; ".join([*why, *doubts]), doubts=tuple(doubts), part=part)


def _no_image(series: Series) -> str | None:
    """What it is instead of an anatomical MR image, or None."""
    tags = series.tags
    modality = str(tags.get("Modality") or "")
    if modality != "MR":
        return f"{MODALITIES.get(modality, 'a series of another kind')} and not MR"
    for value in _kinds(tags):
        for kind, pattern in MAPS.items():
            if re.fullmatch(pattern, value):
                return f"{kind} (ImageType {value})"
    shown = f"{series.name} {tags.get('ProtocolName') or ''}"
    if _number(tags, "DiffusionBValue") or "EP" in _listed(tags.get("ScanningSequence")) or _DIFFUSION.search(shown):
        return "a diffusion-weighted or echo-planar image"
    return None


def _by_timing(tags: Mapping[str, Any]) -> tuple[str | None, str]:
    """The weighting that timing gives, and the timing in words. TE and TR in ms."""
    contrast = {"T1": "T1W", "T2": "T2W"}.get(str(tags.get("AcquisitionContrast") or "").upper())
    repetition, echo, flip = (_number(tags, name) for name in ("RepetitionTime", "EchoTime", "FlipAngle"))
    if repetition is None or echo is None:
        return contrast, f"said to be {contrast}" if contrast else ""
    timing = f"TR {figure(repetition)} ms, TE {figure(echo, 3)} ms"
    kinds = _listed(tags.get("ScanningSequence"))
    if "GR" in kinds and echo < 10 and repetition < 400:
        timing = f"gradient echo, {timing}" + (f", flip angle {flip:.0f}°" if flip is not None else "")
        return (None, f"{timing}: hardly T1-weighted") if flip is not None and flip < 5 else ("T1W", timing)
    if "GR" not in kinds and echo >= 50 and repetition >= 1000:
        return "T2W", f"{'spin echo, ' if 'SE' in kinds else ''}{timing}"
    if "GR" not in kinds and echo < 30 and repetition < 1000:
        return "T1W", f"{'spin echo, ' if 'SE' in kinds else ''}{timing}"
    return None, f"{timing}: neither T1- nor T2-weighted"


def _read_name(series: Series) -> SequenceWords:
    return read_name(f"{series.name} {series.tags.get('ProtocolName') or ''}")


def _values(tags: Mapping[str, Any]) -> list[str]:
    """ImageType in capitals, with "_" for blanks."""
    return [re.sub(r"[ -]+", "_", str(item).strip().upper()) for item in _listed(tags.get("ImageType"))]


def _kinds(tags: Mapping[str, Any]) -> list[str]:
    """The values of ImageType after ORIGINAL or DERIVED and PRIMARY or SECONDARY."""
    return _values(tags)[2:]


def _is_reformat(series: Series, read: SequenceWords) -> bool:
    """True for slices that were computed from others, in another direction or thickness."""
    match = re.search(r"resampled|reformat|\bmpr\b", str(series.tags.get("DerivationDescription") or ""), re.IGNORECASE)
    by_type = any(_REFORMAT.fullmatch(value) for value in _kinds(series.tags))
    return bool(match) or by_type or "a multiplanar reformat" in read.other


def part_of(series: Series) -> str | None:
    """Which image of a Dixon acquisition it is: "water", "fat", "in-phase", "opposed-phase", or "dixon" where that is
    not said; None for other series. From ImageType, or else from its name, or from the echo time of one of several
    echoes."""
    for value in _kinds(series.tags):
        for part, pattern in _DIXON.items():
            if re.fullmatch(pattern, value):
                return part
    named = _read_name(series).part
    return named if named not in (None, "dixon") else _part_by_echo(series) or named


def _part_by_echo(series: Series) -> str | None:
    """ "in-phase" or "opposed-phase" for one of several gradient echoes, by its echo time; None otherwise."""
    echo, field = (_number(series.tags, name) for name in ("EchoTime", "MagneticFieldStrength"))
    if not series.part.startswith("echo") or "GR" not in _listed(series.tags.get("ScanningSequence")):
        return None
    if not echo or not field:
        return None
    turns = echo / 1000 * _APART * _PROTON * field
    return "in-phase" if abs(turns - round(turns)) < 0.2 else "opposed-phase" if abs(turns % 1 - 0.5) < 0.2 else None


def _doubts(series: Series, part: str | None) -> list[str]:
    """Reasons to ask before a usable series is taken."""
    tags, words = series.tags, f"{series.name} {series.tags.get('ProtocolName') or ''}"
    body_part = str(tags.get("BodyPartExamined") or "")
    doubts = []
    if elsewhere := _OTHER_PARTS.search(f"{body_part} {words}"):
        doubts.append(f"said to show another part of the body ({elsewhere[0].lower()})")
    if series.plane != "axial":
        doubts.append(f"{series.plane}, where the stager was trained on axial slices")
    if _MIXED.search(words):
        doubts.append("a balanced sequence, T1- and T2-weighted at once")
    if _STAR.search(words):
        doubts.append("T2*-weighted")
    if _BILE.search(words) or (_number(tags, "EchoTime") or 0) > 250:
        doubts.append("so heavily T2-weighted that it shows fluid only")
    if part in PARTS_NOT_STAGED:
        doubts.append(PARTS_NOT_STAGED[part])
    return doubts


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _number(tags: Mapping[str, Any], name: str) -> float | None:
    try:
        return float(tags[name])
    except (KeyError, TypeError, ValueError):
        return None
