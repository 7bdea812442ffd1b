"""What people call a sequence: words of tables, file names and DICOM descriptions, understood in one place.

"T1 post contrast", "t1_vibe_fs_tra" and "LAVA" are T1W, "T2 SPIR" and "t2_haste" are T2W. "T1 map", "T2*", "T2 VIBE"
and "Dixon fat" are neither, and nothing is guessed from a word that is not known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_T1_NAMES = r"vibe|e?-?thrive|lava|flash(?:[23]d)?|f?spgr|mprage|quick[ _-]?3d|twist|disco|starvibe|caipi[ _-]?vibe"
_T2_NAMES = r"haste|ss-?fse|ss-?tse|ssh-?tse|frfse|blade|propeller|multivane"
"""Names that vendors give to sequences of one weighting alone."""

_SUPPRESSED = (
    r"fat[ _-]?(?:sat(?:urat(?:ed|ion))?|sup(?:p(?:r(?:ess(?:ed|ion))?)?)?)|fs|fatsat|spair|spir|stir|chess|we|watsf?|"
    r"fettges(?:ä|ae?)ttigt|fettsupprimiert"
)
_CONTRAST = (
    r"pre|post|ce|(?<=\+)c|(?<=\+ )c|w/o|wo|w/|with|without|after|before|nach|vor|mit|ohne|contrast|enhanced|"
    r"unenhanced|native|nativ|plain|gd|gad|gado(?:linium)?|km|gadoxetate|primovist|eovist|multihance|dotarem|gadavist"
)
_PHASES = (
    r"phases?|arterial|art|portal|porto|portovenous|venous|ven|pv|pvp|hap|late|early|delay(?:ed)?|d?dyn(?:amic)?|"
    r"equilibrium|transitional|hepatobiliary|hbp|min(?:utes?)?|sec(?:onds?)?|\d{1,3}[ _]?(?:s|sec|min)"
)
_ACQUIRED = (
    r"image|images|series|scan|mri?|sequence|weighted|gewichtet|3d|2d|ax(?:ial)?|tra(?:ns(?:versal|verse)?)?|cor(?:onal)?|"
    r"sag(?:ittal)?|m?bh|breath[ _-]?hold|free[ _-]?breathing|fb|rt|trig(?:gered)?|resp(?:iratory)?|"
    r"nav(?:igated|igator)?|pace|iso|hr|abd(?:omen|ominal)?|liver|upper|gre|gradient|spin|echo|se|tse|fse|ffe|tfe|"
    r"turbo|fast|single[ _-]?shot|ssh|radial|star|sense|grappa|caipi(?:rinha)?|m?fl[23]d|opt|space|cube|vista"
)
_DIXON = (
    r"m?-?e?-?dixon|dix|flex|ideal|dual[ _-]?echo|opp?[ _/-]*i[np]|i[np][ _/-]*(?:opp?|out)(?:[ _-]of)?(?:[ _-]phase)?"
)
"""A Dixon acquisition, or two echoes, of which the name does not say which is meant."""

_OTHER = {
    "a subtraction image": r"sub|subs|subtr|subtract(?:ed|ion)s?",
    "a parameter map": (
        r"maps?|mapping|t[12][ _-]?rho|rho|ser|pei?\d?|wash[ _-]?(?:in|out)|ttp|i?auc|ktrans|molli|r[12](?![a-z0-9*])|"
        r"param(?:eter|etric)?"
    ),
    "a T2* image or map": r"[tr]2[ _-]?(?:\*|star)|star(?=[ _-]?map)|swi",
    "a fat-fraction map": r"fat[ _-]?fraction|pdff|ff",
    "a diffusion-weighted image": r"e?adc|dwi|diff(?:usion)?|trace(?:w)?|ivim|b[ _-]?\d{2,4}",
    "a projection": r"mips?|minip|projection",
    "a multiplanar reformat": r"mpr(?:[ _-]?(?:range|collection))?|reformat(?:s|ted)?",
    "a localizer": r"loc|locali[sz]ers?|scout|survey",
    "an image of fluid (MRCP)": r"mrcp|cholangio\w*|hydro",
    "a balanced sequence, T1- and T2-weighted at once": r"tru?fi|true[ _-]?fisp|fiesta|b-?tfe|b-?ffe|balanced|ssfp",
    "a FLAIR image": r"flair",
    "a phase image": r"phase[ _-]?(?:map|image)",
}
"""What a name can say that is no T1W or T2W image of the liver."""

_PARTS = {
    "fat": r"fat(?:[ _-]?(?:only|image))?",
    "water": r"water(?:[ _-]?(?:only|image))?",
    "opposed-phase": r"(?:out(?:[ _-]?of)?|opp(?:osed)?|op)[ _-]?ph(?:ase)?|opposed|opp",
    "in-phase": r"in[ _-]?ph(?:ase)?",
}
"""The four images of a Dixon acquisition."""
PARTS_NOT_STAGED = {
    "fat": "the fat image of a Dixon acquisition",
    "opposed-phase": "the opposed-phase image of a Dixon acquisition",
    "dixon": "one of the images of a Dixon acquisition, and not which (water, fat, in-phase or opposed-phase)",
}
"""What has to be chosen by a person: the stager knows water images, T1W without Dixon and in-phase images alone."""
_LETTERS = {"f": "fat", "w": "water", "opp": "opposed-phase", "op": "opposed-phase", "out": "opposed-phase"}
_LETTERS |= {"in": "in-phase", "ip": "in-phase"}
"""Names of the images of a Dixon acquisition, valid only with the word Dixon in the name."""


def _weighting(digit: int, names: str) -> str:
    glued = (
        rf"t{digit}(?=(?:{names}|fs|map|rho|star|ce|gd)(?![a-z0-9]))|[sd]t{digit}w(?![a-z0-9*/])|t{digit}c(?![a-z0-9])"
    )
    return rf"t{digit}(?:[ _.-]?(?:weighted|wi|w))?(?![a-z0-9*/])|{glued}|(?:{names})(?![a-z0-9*])"


_BEGIN = r"(?:(?<![a-z0-9])|(?<=(?<![a-z0-9])t[12]))"
_KINDS = {
    **{f"other{place}": rf"(?:{pattern})(?![a-z0-9*])" for place, pattern in enumerate(_OTHER.values())},
    "suppressed": rf"(?:{_SUPPRESSED})(?![a-z0-9*])",
    "dixon": rf"(?:{_DIXON})(?![a-z0-9*])",
    **{f"part{place}": rf"(?:{pattern})(?![a-z0-9*])" for place, pattern in enumerate(_PARTS.values())},
    "first": _weighting(1, _T1_NAMES),
    "second": _weighting(2, _T2_NAMES),
    "plain": rf"(?:{_CONTRAST}|{_PHASES}|{_ACQUIRED})(?![a-z0-9*])",
    "unknown": r"[^\W_]+\*?",
}
_WORD = re.compile(_BEGIN + "(?:" + "|".join(f"(?P<{kind}>{text})" for kind, text in _KINDS.items()) + ")", re.I)


LONGEST = 300
"""Characters of a name that are looked at; what follows is not known."""


@dataclass(frozen=True)
class Word:
    """One word or phrase of a name, what kind of word it is, and where it stands."""

    text: str
    kind: str
    begin: int
    end: int


@dataclass(frozen=True)
class SequenceWords:
    """The sequence that a name describes.

    Attributes
    ----------
    weightings : "T1W", "T2W", both, or neither.
    part : "water", "fat", "in-phase" or "opposed-phase" of a Dixon acquisition, or None; "dixon" if the part is
        not named.
    other : what it is instead of a T1W or T2W image of the liver, in words; empty if it may be one.
    unknown : words that are not known.
    """

    weightings: frozenset[str]
    part: str | None
    other: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def weighting(self) -> str | None:
        """ "T1W" or "T2W" if the name says one of them."""
        return next(iter(self.weightings)) if len(self.weightings) == 1 else None

    @property
    def doubt(self) -> str | None:
        """Why it cannot be taken for the sequence that it names, or None."""
        if len(self.weightings) > 1:
            return "both T1W and T2W"
        if self.other:
            return self.other[0]
        if self.part in PARTS_NOT_STAGED:
            return PARTS_NOT_STAGED[self.part]
        if self.weighting is None:
            return "neither T1W nor T2W"
        return f"words that are not known ({', '.join(self.unknown)})" if self.unknown else None


def words_of(text: str) -> list[Word]:
    """The words of a name, in order. W, F, in and opp are Dixon images only in a name with the word Dixon."""
    matches = _WORD.finditer(text[:LONGEST])
    words = [Word(match[0], str(match.lastgroup), match.start(), match.end()) for match in matches]
    if len(text) > LONGEST:
        words.append(Word(text[LONGEST:], "unknown", LONGEST, len(text)))
    if any(word.kind == "dixon" for word in words):
        letters = {name: f"part{list(_PARTS).index(part)}" for name, part in _LETTERS.items()}
        words = [replace(word, kind=letters.get(word.text.lower(), word.kind)) for word in words]
    return words


def read_words(words: list[Word]) -> SequenceWords:
    """What words say of a sequence."""
    kinds = {word.kind for word in words}
    weightings = {name for kind, name in (("first", "T1W"), ("second", "T2W")) if kind in kinds}
    parts = [part for place, part in enumerate(_PARTS) if f"part{place}" in kinds]
    part = parts[0] if len(parts) == 1 else "dixon" if parts or "dixon" in kinds else None
    if part is not None and part != "fat" and not weightings:
        weightings = {"T1W"}  # Dixon acquisitions of the liver are gradient echoes, T1-weighted
    other = [meaning for place, meaning in enumerate(_OTHER) if f"other{place}" in kinds]
    unknown = tuple(word.text for word in words if word.kind == "unknown")
    return SequenceWords(frozenset(weightings), part, tuple(other), unknown)


def read_name(text: str) -> SequenceWords:
    """The sequence that a name describes."""
    return read_words(words_of(text))
