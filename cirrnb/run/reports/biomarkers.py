"""Where measurements of the images enter a report: this function, and nothing else, knows who measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cirrnb.data.prepared import Bag
from cirrnb.view.patient import Measured


def biomarkers_of(bag: Bag) -> Mapping[str, Sequence[Measured]]:
    """Sequence -> what was measured on that scan of the patient; empty where nothing is.

    Whatever comes back is shown on the patient's page and gets a column each in summary.csv.
    """
    return {}
