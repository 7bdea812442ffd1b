"""Where measurements of the images enter a report: this function, and nothing else, knows who measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cirrnb.data.prepared import Bag
from cirrnb.measure.biomarkers.scan import NO_ORGANS, biomarkers_or_reasons
from cirrnb.measure.measurement import Measurement


def biomarkers_of(bag: Bag) -> Mapping[str, Sequence[Measurement]]:
    """Sequence -> what was measured on that scan of the patient; what needs a segmentation of other organs is told only
    where there is one.

    Whatever comes back is shown on the patient's page and gets a column each in summary.csv.
    """
    return {
        name: [one for one in biomarkers_or_reasons(prepared.scan) if one.note != NO_ORGANS]
        for name, prepared in bag.scans.items()
    }
