"""Writes folders in the published layout, with the quirks that people's copies have. Files are empty unless given."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from cirrnb.data.scan import Scan
from cirrnb.data.stage_scale import CIRRHOSIS

COMPLETE = "CirrMRI600+_CompleteData_age_gender_evaluation.csv"
CODES = {"female": "1", "male": "2"}


@dataclass(frozen=True)
class Quirks:
    """How a copy differs from the archive: nested folders, where the tables lie, how they are written."""

    nested: frozenset[str] = frozenset()
    metadata: str = "Metadata"
    mark: str = ""
    padding: str = ""
    decimals: bool = False
    newline: str = "\n"
    separate: bool = False  # a table for each sequence instead of the complete one


@dataclass
class Patient:
    """What is written of one patient: for each sequence the split and whether there is a mask."""

    id: int
    scans: dict[str, tuple[str | None, bool]]
    stage: str | None = None
    age: int | None = None
    sex: str | None = None
    healthy: bool = False
    listed: bool = True


@dataclass
class Tree:
    """Paths of the published layout under `root`."""

    root: Path
    quirks: Quirks = field(default_factory=Quirks)

    def folder(self, name: str) -> Path:
        twice = [name, name] if name in self.quirks.nested else [name]
        return self.root.joinpath(*twice)

    def place(self, patient: Patient, sequence: str, what: str) -> Path:
        split = patient.scans[sequence][0]
        if patient.healthy:
            short = sequence[:2]
            folder = self.folder("Healthy_subjects") / f"{short}_W_Healthy" / f"{short}_{what}"
        else:
            folder = self.folder(f"Cirrhosis_{sequence[:2]}_3D") / f"{split}_{what}"
        return folder / f"{patient.id}.nii.gz"

    def write(self, patients: list[Patient]) -> None:
        for patient in patients:
            for sequence, (_, mask) in patient.scans.items():
                for what in ("images", "masks") if mask else ("images",):
                    path = self.place(patient, sequence, what)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
        tables = defaultdict(list)
        for patient in filter(lambda patient: patient.listed, patients):
            if patient.healthy:
                tables["Healthy_demographics.csv"].append(patient)
            elif self.quirks.separate:
                for sequence in patient.scans:
                    tables[f"{sequence[:2]}_age_gender_evaluation.csv"].append(patient)
            else:
                tables[COMPLETE].append(patient)
        for name, listed in tables.items():
            self.table(name, [self.row(patient) for patient in listed], healthy="Healthy" in name)

    def row(self, patient: Patient) -> list[str]:
        stage = str(CIRRHOSIS.index(patient.stage) + 1) if patient.stage else ""
        cells = [str(patient.id), "" if patient.age is None else str(patient.age), CODES.get(patient.sex or "", "")]
        cells += [] if patient.healthy else [stage]
        return [cell + ".0" if cell and self.quirks.decimals else cell for cell in cells]

    def table(self, name: str, rows: list[list[str]], healthy: bool = False) -> Path:
        columns = ["ID", "Age", "Gender"] if healthy else ["Patient ID", "Age", "Gender", "Radiological Evaluation"]
        pad = self.quirks.padding
        lines = [",".join(pad + cell + pad for cell in cells) for cells in [columns, *rows]]
        path = self.root / self.quirks.metadata / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((self.quirks.mark + self.quirks.newline.join(lines) + self.quirks.newline).encode())
        return path

    def expected(self, patients: list[Patient]) -> set[Scan]:
        """What a reader should find."""
        return {
            Scan(
                patient=str(patient.id),
                sequence=sequence,
                image=self.place(patient, sequence, "images"),
                mask=self.place(patient, sequence, "masks") if mask else None,
                stage=patient.stage if patient.listed and not patient.healthy else None,
                split=None if patient.healthy else split,
                source="healthy" if patient.healthy else "cirrhotic",
                age=patient.age if patient.listed else None,
                sex=patient.sex if patient.listed else None,
            )
            for patient in patients
            for sequence, (split, mask) in patient.scans.items()
        }
