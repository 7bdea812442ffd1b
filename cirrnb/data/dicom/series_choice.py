"""Which DICOM series are staged: what each is, from its timing and its name, and which of them is taken."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cirrnb.data.dicom.series import Series
from cirrnb.data.dicom.series_faults import find_fault
from cirrnb.data.errors import InputError
from cirrnb.data.numbers import figure
from cirrnb.data.sequences import T1W_T2W

MAPS = {
    "ADC": "an ADC map",
    "TRACEW": "a diffusion-weighted image",
    "FA": "an anisotropy map",
    "PHASE MAP": "a phase image",
    "PROJECTION IMAGE": "a projection (MIP)",
    "MIP": "a projection (MIP)",
    "SUBTRACTION": "a subtraction image",
    "SUB": "a subtraction image",
    "LOCALIZER": "a localizer",
    "FAT_FRACTION": "a fat-fraction map",
    "R2_STAR": "an R2* map",
    "T2_STAR": "a T2* map",
    "T1_MAP": "a T1 map",
    "T2_MAP": "a T2 map",
    "PERFUSION": "a perfusion map",
}
"""Values of ImageType that name something computed from images, or no image of the liver."""

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
_T1 = re.compile(r"(?<![a-z0-9])t1(?![0-9])|vibe|lava|thrive|flash|f?spgr|dixon|quick ?3d|twist|disco", re.IGNORECASE)
_T2 = re.compile(r"(?<![a-z0-9])t2(?![0-9*])|haste|ss-?fse|sshtse|frfse|blade|propeller|multivane", re.IGNORECASE)
PORTAL = re.compile(
    r"portal|(?<![a-z])p\.?v\.?p?(?![a-z])|ven(ous|os)|(?<!\d)(60|65|70|75|80) ?s(ec)?\b", re.IGNORECASE
)
"""What names the portal venous phase, in which most published T1W scans were taken."""

NONE = 0
"""In place of a series' number: this patient has no such scan."""


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
    """

    sequence: str | None
    sure: bool
    why: str
    never: bool = False
    remedy: str = "Choose another series."
    doubts: tuple[str, ...] = ()


def judge(series: Series) -> Verdict:
    """Which sequence a volume is, how sure that is, and why.

    The reasons hold no free text of the file: they are written to tables, and a description may name a person.
    """
    tags = series.tags
    if (kind := _no_image(series)) is not None:
        return Verdict(None, True, kind, never=True, remedy="Choose a T1-weighted or T2-weighted MR series.")
    if (fault := find_fault(series)) is not None:
        return Verdict(None, True, fault[0], never=True, remedy=fault[1])
    timed, timing = _by_timing(tags)
    named = _by_name(series.description, tags)
    doubts = _doubts(series)
    sequence = timed or named
    if timed and named and timed != named:
        return Verdict(None, False, f"{timing}, which speaks for {timed}, but its name says {named}")
    if sequence is None:
        return Verdict(None, False, timing if timing else "weighting unknown from timing and name")
    why = [timing] if timed else ["no conclusive timing"]
    why += [f"named {named}"] if named else []
    return Verdict(sequence, timed is not None and not doubts, "; ".join([*why, *doubts]), doubts=tuple(doubts))


def _no_image(series: Series) -> str | None:
    """What it is instead of an anatomical MR image, or None."""
    tags = series.tags
    modality = str(tags.get("Modality") or "")
    if modality != "MR":
        return f"{MODALITIES.get(modality, 'a series of another kind')} and not MR"
    values = [str(item).upper() for item in _listed(tags.get("ImageType"))]
    for value in values[2:]:
        if value in MAPS:
            return f"{MAPS[value]} (ImageType {value})"
    shown = f"{series.description} {tags.get('ProtocolName') or ''}"
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


def _by_name(description: str, tags: Mapping[str, Any]) -> str | None:
    words = f"{description} {tags.get('ProtocolName') or ''}"
    first, second = bool(_T1.search(words)), bool(_T2.search(words))
    return None if first == second else "T1W" if first else "T2W"


def _doubts(series: Series) -> list[str]:
    """Reasons to ask before a usable series is taken."""
    tags, words = series.tags, f"{series.description} {series.tags.get('ProtocolName') or ''}"
    values = [str(item).upper() for item in _listed(tags.get("ImageType"))]
    part = str(tags.get("BodyPartExamined") or "")
    doubts = []
    if elsewhere := _OTHER_PARTS.search(f"{part} {words}"):
        doubts.append(f"said to show another part of the body ({elsewhere[0].lower()})")
    if series.plane != "axial":
        doubts.append(f"{series.plane}, where the stager was trained on axial slices")
    if _MIXED.search(words):
        doubts.append("a balanced sequence, T1- and T2-weighted at once")
    if _STAR.search(words):
        doubts.append("T2*-weighted")
    if _BILE.search(words) or (_number(tags, "EchoTime") or 0) > 250:
        doubts.append("so heavily T2-weighted that it shows fluid only")
    if {"FAT", "F", "FAT_ONLY"} & set(values[2:]):
        doubts.append("the fat image of a Dixon pair")
    if {"OP", "OPP_PHASE", "OUT_PHASE", "OPPOSED_PHASE"} & set(values[2:]):
        doubts.append("opposed-phase")
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


Ask = Callable[[str, Sequence["Judged"]], int]
"""Called with a sequence and its candidates; returns a number of the listing or `NONE`."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A volume and what it is."""

    series: Series
    verdict: Verdict

    @property
    def number(self) -> int:
        return self.series.number


def judge_all(series: Sequence[Series]) -> list[Judged]:
    return [Judged(volume, judge(volume)) for volume in series]


def choose(
    judged: Sequence[Judged], named: Mapping[str, int | None], ask: Ask | None = None
) -> dict[str, tuple[Judged, str]]:
    """Sequence -> the volume to be staged and why it was taken. A sequence that the patient lacks is absent.

    Parameters
    ----------
    judged : the volumes of one patient.
    named : sequence -> number in the listing that the user gave, `NONE` for no such scan, or None to have it suggested.
    ask : called where it is not clear; without it InputError says how to name a series.

    Raises
    ------
    InputError
        For a number that is not listed or names what cannot be staged, one volume for both sequences, or where it is
        not clear and `ask` is None.
    """
    chosen: dict[str, tuple[Judged, str]] = {}
    for sequence in T1W_T2W:
        number = named.get(sequence)
        if number is None:
            clear, candidates = _suggest(sequence, judged)
            if clear is not None:
                chosen[sequence] = clear
                continue
            if not candidates:
                continue
            if ask is None:
                raise _unclear(sequence, candidates)
            number = ask(sequence, candidates)
        if number != NONE:
            chosen[sequence] = _named(sequence, number, judged), "named by the user"
    if len({id(volume) for volume, _ in chosen.values()}) < len(chosen):
        number = chosen["T1W"][0].number
        raise InputError(f"series {number}", "one series for T1W and T2W", "a series for each", "Name another for one.")
    return chosen


def _suggest(sequence: str, judged: Sequence[Judged]) -> tuple[tuple[Judged, str] | None, list[Judged]]:
    """The volume to take and why, or None and the candidates to choose from."""
    known = [each for each in judged if each.verdict.sequence == sequence]
    sure = [each for each in known if each.verdict.sure]
    if len(sure) == 1:
        return (sure[0], sure[0].verdict.why), sure
    portal = [each for each in sure if PORTAL.search(each.series.description)]
    if sequence == "T1W" and len(portal) == 1:
        return (portal[0], f"{portal[0].verdict.why}; of {len(sure)} the one in the portal venous phase"), portal
    unclear = [
        each for each in judged if each.verdict.sequence is None and not each.verdict.never and not each.verdict.sure
    ]
    return None, sure or known or unclear


def _unclear(sequence: str, candidates: Sequence[Judged]) -> InputError:
    shown = "; ".join(f"{each.number} ({each.series.description}: {each.verdict.why})" for each in candidates[:8])
    rest = f"; and {len(candidates) - 8} more" if len(candidates) > 8 else ""
    option = f"--{sequence.lower()}"
    return InputError(
        sequence,
        f"{len(candidates)} series that may be it: {shown}{rest}",
        "one that is clearly it",
        f"Name it with {option} {candidates[0].number}, or say {option} {NONE} if there is none.",
    )


def _named(sequence: str, number: int, judged: Sequence[Judged]) -> Judged:
    volume = next((candidate for candidate in judged if candidate.number == number), None)
    if volume is None:
        numbers = ", ".join(str(candidate.number) for candidate in judged[:12])
        raise InputError(
            f"series {number}", "no such number for this patient", f"one of {numbers}", "See --list for the listing."
        )
    if volume.verdict.never:
        raise InputError(
            f"series {number} ({volume.series.description})", volume.verdict.why, f"a {sequence} scan of the abdomen",
            volume.verdict.remedy,
        )  # fmt: skip
    return volume
