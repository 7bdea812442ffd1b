"""One answer to "why this stage?": maps on the slices, shares of slices and sequences, and how to bring them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.atomic_files import file_stem
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.nifti.saving import save_volume
from cirrnb.explanation.shares import Shares
from cirrnb.preparation.geometry import shared_out


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Attribution of a raw score to the pixels, slices and sequences of one patient.

    Attributes
    ----------
    subject, model : who and by which model.
    method, label, signed : as the registry calls the method; signed maps speak for (positive) and against (negative).
    target : the raw score that is explained, by name; log-odds, never a probability.
    score, baseline_score : its value for the patient and for the baseline (mean where there are several).
    baseline : name of what the patient was compared with, or None.
    maps : sequence -> (slices, rows, columns) float32 on the prepared grid.
    grids, source_grids : sequence -> grid of the maps, and of the file they go back to.
    shares : what each sequence and each slice adds to the score.
    delta : sum of the maps less the difference of the scores, in units of the score; None where the method knows none.
    settings : of the method.
    notes : what is unusual, in words for a reader.
    simulated : True if the model was trained on simulated images.
    fingerprint : of the model, see `TrainedModel.fingerprint`; by it, never by its name, a model is recognised.
    files : sequence -> the scan's own file, from which overlays take how they are placed; not kept in stores.
    """

    subject: str
    model: str
    method: str
    label: str
    signed: bool
    target: str
    score: float
    baseline_score: float | None
    baseline: str | None
    maps: Mapping[str, NDArray[np.float32]]
    grids: Mapping[str, Grid]
    source_grids: Mapping[str, Grid]
    shares: Shares
    delta: float | None
    simulated: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)

    def __repr__(self) -> str:
        scans = ", ".join(f"{name} {one.shape}" for name, one in self.maps.items())
        asked = f"{self.method!r} of {self.target!r} {self.score:+.2f}"
        return f"Explanation({self.subject!r}, {asked} by {self.model!r}; {scans})"

    @property
    def relative_delta(self) -> float | None:
        """|delta| over the difference between the scores of the patient and of the baseline."""
        if self.delta is None or self.baseline_score is None:
            return None
        return abs(self.delta) / max(abs(self.score - self.baseline_score), 1e-9)

    def to_source(self, sequence: str) -> NDArray[np.float32]:
        """The sequence's map on its file's own grid and order of axes: float32, the sum kept, NaN in slices that were
        not explained, 0 beyond the prepared field of view.

        Raises InputError for a sequence that was not explained.
        """
        if sequence not in self.maps:
            raise InputError(
                f"{self.subject} {sequence}", "no explanation", f"one of {list(self.maps)}", "Ask for one of these."
            )
        return shared_out(self.source_grids[sequence], self.grids[sequence], self.maps[sequence])

    def to_nifti(self, folder: Path | str) -> list[Path]:
        """Write an overlay for each sequence as <patient>_<sequence>_<method>.nii.gz into `folder`, on the grid of its
        file and placed by the same forms, codes and unit.

        Files are written atomically; the header says what is explained. The patient's id is in the name alone.
        Raises InputError where a file of that name belongs to another scan.
        """
        folder = Path(folder)
        written = []
        for sequence in self.maps:
            path = folder / f"{file_stem(self.subject, sequence, self.method)}.nii.gz"
            told = f"{self.method}: {self.target}{' (simulated)' * self.simulated}"
            values, scan = self.to_source(sequence), self.files.get(sequence)
            written.append(save_volume(path, values, self.source_grids[sequence], scan=scan, description=told))
        return written
