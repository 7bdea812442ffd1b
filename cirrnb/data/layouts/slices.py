"""The published 2D layout: one PNG a slice, without spacing or affine; a table of slices, not a cohort of scans."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirrnb.data.errors import InputError, InputErrors, Remarks
from cirrnb.data.layouts import fields
from cirrnb.data.layouts.metadata import Person, read_people
from cirrnb.data.layouts.published import nested
from cirrnb.data.scan import SPLITS

if TYPE_CHECKING:
    import pandas as pd

SLICE_FOLDERS = {"T1W": "Cirrhosis_T1_2D", "T2W": "Cirrhosis_T2_2D"}
COLUMNS = ("subject", "patient", "sequence", "split", "stage", "age", "sex", "slice", "image", "mask")


def read_slices(root: Path | str, *, on_problem: str = "raise") -> pd.DataFrame:
    """One row a PNG slice of the published 2D layout, with the patient's stage from the tables beside it.

    Columns: subject, patient, sequence, split, stage, age, sex, slice (0, 1, ... in the order of the numbers in the
    file names), image and mask (path, None where there is none). The slices of a patient belong together: a split by
    slice tests on the patients it was trained on.

    Raises InputErrors as `cirrnb.read_cohort` does, with the same meaning of `on_problem`.
    """
    import pandas as pd

    root, remarks = Path(root), Remarks()
    people = read_people(root, "cirrhotic", remarks)
    rows: list[dict[str, Any]] = []
    for sequence, name in SLICE_FOLDERS.items():
        places: dict[str, Path] = {}
        for split, patient, folder in _patients(nested(root, name), remarks):
            if patient in places:
                found = f"patient {patient} in {places[patient]} and {folder}"
                remarks.problems.append(InputError(root, found, "one split per patient", "Keep the one that is right."))
            places.setdefault(patient, folder)
            if patient not in people.spoiled and places[patient] == folder:
                person = people.known.get(patient, Person())
                own = {"stage": person.stage, "age": person.age, "sex": person.sex}
                named = {"subject": f"cirrhotic/{patient}", "patient": patient, "sequence": sequence, "split": split}
                rows.extend({**named, **own, **files} for files in _slices(folder, remarks))
    if not rows and not remarks.problems:
        expected = f"{' or '.join(SLICE_FOLDERS.values())} with train, valid and test folders of PNG slices"
        remarks.problems.append(InputError(root, "no PNG slice", expected, "Correct the path."))
    if remarks.problems and (on_problem == "raise" or not rows):
        raise InputErrors(remarks.problems)
    if remarks.problems:
        warnings.warn(f"{root.name}: {InputErrors(remarks.problems)}", stacklevel=2)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _patients(folder: Path, remarks: Remarks) -> Iterator[tuple[str, str, Path]]:
    """Split, patient and folder of every patient."""
    for split in SPLITS:
        place = folder / split
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.name.startswith(".") or not path.is_dir():
                continue
            try:
                yield split, fields.whole_number_id(path.name), path
            except ValueError as error:
                found = f"a folder named {path.name!r:.120}"
                remarks.problems.append(InputError(place, found, str(error), "Rename it after its patient."))


def _slices(folder: Path, remarks: Remarks) -> Iterator[dict[str, Any]]:
    images, masks = _pngs(folder / "images"), _pngs(folder / "masks")
    for number, name in enumerate(sorted(images, key=fields.natural_order)):
        yield {"slice": number, "image": images[name], "mask": masks.get(name)}
    for name in sorted(masks.keys() - images.keys()):
        remedy = "Restore the slice or take the mask away."
        remarks.problems.append(InputError(masks[name], "a mask without its slice", f"{name} in images", remedy))


def _pngs(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.name: path for path in folder.iterdir() if re.fullmatch(r"[^.].*\.png", path.name, re.IGNORECASE)}
