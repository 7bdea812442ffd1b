"""Phases of a dynamic acquisition, distinguished by the acquisition times of their pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from cirrnb.data.dicom.files import Instance

TIMES = ("AcquisitionTime", "ContentTime", "TriggerTime")
"""Attributes that tell when a picture was taken, in the order in which they are tried."""

TIMES_OF_DAY = TIMES[:2]

_OF_DAY = re.compile(r"(\d{2}):?(\d{2}):?(\d{2}(?:\.\d{1,6})?)")


def seconds(tags: Mapping[str, Any], name: str) -> float | None:
    """A time in seconds: since midnight, or TriggerTime, which is in ms since a trigger; None where there is none."""
    text = str(tags.get(name, "")).strip()
    if name == "TriggerTime":
        try:
            return float(text) / 1000
        except ValueError:
            return None
    match = _OF_DAY.fullmatch(text)
    return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) if match else None


def starts(volumes: Sequence[Sequence[Instance]], names: Sequence[str] = TIMES) -> list[float] | None:
    """When the first picture of each volume was taken, in seconds, by the first attribute that differs between them.

    None where no attribute does: all begin at one time, or some do not say when.
    """
    for name in names:
        times = [[seconds(file.tags, name) for file in files] for files in volumes]
        known = [[time for time in same if time is not None] for same in times]
        if [len(same) for same in known] == [len(same) for same in times] and all(known):
            first = [min(same) for same in known]
            if len(set(first)) > 1:
                return first
    return None


def phases(files: Sequence[Instance]) -> list[list[Instance]] | None:
    """Files of one series that lie at the same places several times, one list for each phase in the order of time.

    None unless each place was taken as often as every other, and each phase was over before the next one began:
    anything else is no matter of time alone.
    """
    if any(len(file.positions) != 1 for file in files):
        return None
    for name in TIMES:
        places: dict[tuple[float, ...], list[tuple[float, int]]] = defaultdict(list)
        for number, file in enumerate(files):
            if (time := seconds(file.tags, name)) is not None:
                places[tuple(np.round(file.positions[0], 2))].append((time, number))
        counts = {len(same) for same in places.values()}
        if sum(map(len, places.values())) < len(files) or len(counts) != 1 or counts == {1}:
            continue
        by_phase = list(zip(*map(sorted, places.values()), strict=True))
        if all(max(earlier)[0] < min(later)[0] for earlier, later in pairwise(by_phase)):
            return [[files[number] for _, number in phase] for phase in by_phase]
    return None
