"""The truth of a simulated patient: where the signs are, counterfactuals without them, and the best possible answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Orientation
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.preparation.geometry import labels_like, resample_like
from cirrnb.preparation.intensity import find_body, scale
from cirrnb.simulation.ceiling import stage_posteriors
from cirrnb.simulation.cohort import MARK, SIMULATOR_VERSION, stored_request
from cirrnb.simulation.patients import Patient, Plan, draw_patient, plan
from cirrnb.simulation.populations import BENCHMARK, Population, population_of
from cirrnb.simulation.sampling import Sampling, tissue_at
from cirrnb.simulation.scans import SCANNERS, scan_setting, scanner, simulate_scan
from cirrnb.simulation.signal import Protocol
from cirrnb.simulation.signs import CHANNELS, SIGNS, Latent


class SimulatedTruth:
    """The truth behind a simulated cohort, patient by patient.

    Counterfactuals are simulated on request, with the scan's own noise, scanner and breathing: a patient's scan and its
    counterfactual differ by the sign and by nothing else.
    """

    def __init__(self, root: Path | str):
        """`root` is the folder that `simulate_cohort` made.

        Raises InputError if it is no simulated cohort, or of another version of the simulator.
        """
        self.root = Path(root)
        request = stored_request(self.root)
        if request is None:
            raise InputError(
                self.root, "no simulated cohort", f"a folder with {MARK}", "Only simulated patients have a known truth."
            )
        if request.get("version") != SIMULATOR_VERSION:
            raise InputError(
                self.root,
                f"a cohort of version {request.get('version')} of the simulator",
                f"version {SIMULATOR_VERSION}, whose patients can be simulated again",
                "Simulate the cohort again.",
            )
        self.request: dict[str, Any] = request

    @classmethod
    def of(cls, root: Path | str) -> SimulatedTruth | None:
        """The truth of a folder that `simulate_cohort` made; None for a table, whose scans may come from anywhere."""
        return cls(root) if stored_request(Path(root)) is not None else None

    def evidence(self, prepared: PreparedScan) -> NDArray[np.uint8]:
        """(slices, rows, columns) on the prepared grid: 0 where the scan is as its counterfactual without disease, else
        the number of the sign (place in `SIGNS`, from 1) that changed it."""
        scan = prepared.scan
        path = self.root / "evidence" / scan.source / scan.sequence / f"{scan.patient}.nii.gz"
        return labels_like(prepared, np.asarray(nib.load(path).dataobj))  # type: ignore[attr-defined]

    def without(self, bag: Bag, sign: str | None = None) -> dict[str, NDArray[np.float32]]:
        """Sequence -> (slices, rows, columns) on the prepared grid: the patient without one sign, or without any
        (None), scaled as the patient's own scan is.

        Raises InputError for a sign that does not exist, or a patient who is not of this cohort.
        """
        if sign is not None and sign not in SIGNS:
            raise InputError("sign", repr(sign), f"one of {SIGNS}", "Choose one of these.")
        patient = self._patient(bag)
        changed = replace(patient, body=patient.body.counterfactual if sign is None else patient.body.without(sign))
        return self._again(bag, changed, scanner(patient, self.request["seed"], self.request["shortcut"]))

    def scanner(self, bag: Bag) -> str:
        """Scanner of the patient, one of `cirrnb.simulation.scans.SCANNERS`."""
        return scanner(self._patient(bag), self.request["seed"], self.request["shortcut"])

    def on_scanner(self, bag: Bag, name: str) -> dict[str, NDArray[np.float32]]:
        """Sequence -> (slices, rows, columns) on the prepared grid: the same patient, breath and noise on a scanner.

        Scaled as preparation scales a scan of its own, by the percentiles of its body.

        Raises InputError for a scanner that does not exist, or a patient who is not of this cohort.
        """
        if name not in SCANNERS:
            raise InputError("scanner", repr(name), f"one of {tuple(SCANNERS)}", "Choose one of these.")
        return self._again(bag, self._patient(bag), name, scaled_anew=True)

    def tissue_at(self, bag: Bag, sequence: str, place: tuple[float, float, float]) -> str:
        """The tissue that fills most of a scan's voxel at a place (mm, RAS+), as the simulator names it.

        Raises InputError for a patient who is not of this cohort.
        """
        patient, (_, sampling) = self._patient(bag), self._setting(bag, sequence)
        x, y, z = place
        return tissue_at(patient.body, sampling, (-x, -y, z), sequence)

    def protocol(self, bag: Bag, sequence: str) -> Protocol:
        """How a scan of the patient was acquired. Raises InputError for a patient who is not of this cohort."""
        return self._setting(bag, sequence)[0]

    def _setting(self, bag: Bag, sequence: str) -> tuple[Protocol, Sampling]:
        request, patient = self.request, self._patient(bag)
        scanner_name = scanner(patient, request["seed"], request["shortcut"])
        _, protocol, sampling = scan_setting(patient, sequence, request["seed"], request["scale"], scanner_name)
        return protocol, sampling

    def latent(self, bag: Bag) -> Latent | None:
        """What is true of the patient's disease; None for a healthy subject."""
        return self._patient(bag).latent

    def _again(
        self, bag: Bag, patient: Patient, name: str, scaled_anew: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        made = {}
        for sequence, prepared in bag.scans.items():
            image = simulate_scan(patient, sequence, self.request["seed"], self.request["scale"], name, False).image
            low, high = prepared.measured["low"], prepared.measured["high"]
            if scaled_anew:
                orientation = Orientation.of(prepared.source_grid)
                spacing = orientation.grid(prepared.source_grid).spacing
                body = find_body(orientation.apply(image), spacing, prepared.settings.percentiles)
                low, high = body.low, body.high
            volume = resample_like(prepared, image.astype(np.float32))
            # As in preparation, 0 outside the file's field of view, whatever the scaling maps 0 to inside.
            covered = labels_like(prepared, np.ones(image.shape, np.uint8)) > 0
            made[sequence] = np.where(covered, scale(volume, low, high).astype(np.float32), np.float32(0))
        return made

    def bears(self, bag: Bag) -> tuple[str, ...]:
        """Signs of this patient."""
        shown = self._patient(bag).body.shown
        parts = {sign: ("nodules_t1w", "nodules_t2w") if sign == "nodules" else (sign,) for sign in SIGNS}
        return tuple(sign for sign, names in parts.items() if any(shown[name] > 0 for name in names))

    def _patient(self, bag: Bag) -> Patient:
        return self.patient(bag.subject)

    def patient(self, subject: str) -> Patient:
        """What is true of a subject of the cohort. Raises InputError if there is none of that id."""
        if subject not in self._plans:
            raise InputError(subject, "nobody of that id", f"a patient of {self.root}", "Hand in its own cohort.")
        law = self.request.get("healthy_law", 1)
        return draw_patient(self._plans[subject], self.request["seed"], population_of(self.request), law)

    @cached_property
    def _plans(self) -> Mapping[str, Plan]:
        request = self.request
        plans = plan(request["scale"], request["patients"], request["healthy"], request["seed"])
        return {f"{planned.source}/{planned.patient}": planned for planned in plans}


def stages_told_by_signs(latent: Latent, population: Population = BENCHMARK) -> dict[str, float]:
    """Stage -> probability given the true strengths of all signs, without an image; summing to one.

    Computed as in `cirrnb.simulation.ceiling`: of an absent sign only its absence is used.
    """
    values = np.array([[latent.channels[channel.name] for channel in CHANNELS]])
    posteriors = stage_posteriors(values, range(len(CHANNELS)), population)[0]
    return dict(zip(CIRRHOSIS, posteriors.tolist(), strict=True))


def strengths(latent: Latent) -> dict[str, float]:
    """Sign -> how strongly it shows in the sequence that shows it best, 0 (absent) to 1, in the order of `SIGNS`."""
    shown = latent.shown
    return {sign: max(shown[channel.name] for channel in CHANNELS if channel.sign == sign) for sign in SIGNS}
