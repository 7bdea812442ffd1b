"""An explanation of one answer: maps, Shapley values of slices and sequences, overlays, and the store on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cirrnb.data.atomic_files import atomic_file, atomic_write, file_stem
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.json_file import parse_json, read_object
from cirrnb.data.nifti.saving import save_volume
from cirrnb.data.pictures import overlay_picture
from cirrnb.data.plugins import loaded_plugins
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.typed_paths import typed_path
from cirrnb.explanation.shapley import ShapleyValues
from cirrnb.model.trained_model import TrainedModel
from cirrnb.preparation.geometry import shared_out


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Attribution of a raw score to the pixels, slices and sequences of one patient.

    Attributes
    ----------
    subject, model : who and by which model.
    method, label, signed : as the registry calls the method; in signed maps, positive values
        raise the score and negative values lower it.
    target : the raw score that is explained, by name; log-odds, never a probability.
    score, baseline_score : its value for the patient and for the baseline (mean where there are several).
    baseline : name of the image that the patient was compared with, or None.
    maps : sequence -> (slices, rows, columns) float32 on the prepared grid.
    grids, source_grids : sequence -> grid of the maps, and of the file they go back to.
    shapley : what each sequence and each slice adds to the score.
    delta : sum of the maps less the difference of the scores, in units of the score; None where the method knows none.
    settings : of the method.
    notes : what is unusual, as sentences.
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
    shapley: ShapleyValues
    delta: float | None
    simulated: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)

    def __repr__(self) -> str:
        scans = ", ".join(f"{name} {array.shape}" for name, array in self.maps.items())
        described = f"{self.method!r} of {self.target!r} {self.score:+.2f}"
        return f"Explanation({self.subject!r}, {described} by {self.model!r}; {scans})"

    def _repr_html_(self) -> str:
        """The score, the sequences' Shapley values, and of each map the slice with the most of it."""
        from cirrnb.data.summary_html import Picture, summary

        facts = {
            "Score": f"{self.target} {self.score:+.2f} log-odds",
            "Compared with": f"{self.baseline} ({self.baseline_score or 0.0:+.2f})" if self.baseline else "",
            "Adds to the score": ", ".join(f"{name} {value:+.2f}" for name, value in self.shapley.sequences.items()),
            "Model": self.model,
            "Notes": "; ".join(self.notes),
        }
        limit = max(float(np.percentile(np.abs(array), 99.5)) for array in self.maps.values()) or 1.0
        pictures = []
        for name, array in self.maps.items():
            place = int(np.abs(array).sum(axis=(1, 2)).argmax())
            _, down, right = self.grids[name].spacing
            aspect = array.shape[2] * right / (array.shape[1] * down)
            layer = overlay_picture(array[place], limit)
            pictures.append(Picture(f"{name}, slice {place + 1} of {len(array)}", (layer,), aspect))
        return summary(f"{self.label} of {self.subject}", facts, simulated=self.simulated, pictures=pictures)

    @property
    def relative_delta(self) -> float | None:
        """The size of `delta` over the difference between the scores of the patient and of the baseline."""
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
        folder = typed_path(folder)
        written = []
        for sequence in self.maps:
            path = folder / f"{file_stem(self.subject, sequence, self.method)}.nii.gz"
            description = f"{self.method}: {self.target}{' (simulated)' * self.simulated}"
            values, scan = self.to_source(sequence), self.files.get(sequence)
            written.append(save_volume(path, values, self.source_grids[sequence], scan=scan, description=description))
        return written


VERSION = 3
"""Part of every key. Raise it when the same question is answered otherwise than before."""

_SHAPLEY_PARTS = ("slices", "errors", "weights")


class ExplanationStore:
    """A folder of explanations; None keeps nothing."""

    def __init__(self, folder: Path | str | None):
        self.folder = None if folder is None else Path(folder)

    def entry(
        self, model: TrainedModel, scans: Mapping[str, PreparedScan], baseline: torch.Tensor, asked: Mapping[str, Any]
    ) -> Entry:
        """The entry of one explanation, identified by the model's weights, the scans and all settings in `asked`."""
        if self.folder is None:
            return Entry(None)
        digest = hashlib.sha256(json.dumps([VERSION, asked], sort_keys=True).encode())
        if plugins := loaded_plugins():  # an edited plug-in may change the result
            digest.update(repr(sorted(plugins.items())).encode())
        digest.update(model.fingerprint.encode())
        for name, scan in scans.items():
            digest.update(f"{name} {scan.scan.subject}".encode() + np.ascontiguousarray(scan.image).tobytes())
            digest.update(scan.positions.tobytes())
        digest.update(baseline.numpy().tobytes())
        return Entry(self.folder / f"{digest.hexdigest()[:32]}.safetensors")


class Entry:
    """One place in the store."""

    def __init__(self, path: Path | None):
        self.path = path

    def read(self) -> Explanation | None:
        """The explanation that lies here; None where there is none, or it is damaged."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            arrays = load_file(self.path)
            stored = parse_json(arrays.pop("told").tobytes().decode("utf-8"), finite=False)
            maps = {name: arrays[f"map {name}"] for name in stored["grids"]}
            parts = {part: {name: arrays[f"{part} {name}"] for name in stored["grids"]} for part in _SHAPLEY_PARTS}
            grids, source_grids = (
                {n: _grid(g) for n, g in stored.pop(key).items()} for key in ("grids", "source_grids")
            )
            shares = ShapleyValues(sequences=stored.pop("sequences"), nothing=stored.pop("nothing"), **parts)
            stored["notes"] = tuple(stored["notes"])
            return Explanation(maps=maps, grids=grids, source_grids=source_grids, shapley=shares, **stored)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, explanation: Explanation) -> Explanation:
        """Write an explanation atomically; returns it."""
        if self.path is None:
            return explanation
        described: dict[str, Any] = {
            name: getattr(explanation, name)
            for name in explanation.__dataclass_fields__
            if name not in ("maps", "grids", "source_grids", "shapley", "files")
        }
        described["grids"] = {name: _grid_fields(grid) for name, grid in explanation.grids.items()}
        described["source_grids"] = {name: _grid_fields(grid) for name, grid in explanation.source_grids.items()}
        described |= {"sequences": dict(explanation.shapley.sequences), "nothing": explanation.shapley.nothing}
        arrays = {f"map {name}": np.ascontiguousarray(array) for name, array in explanation.maps.items()}
        for part in _SHAPLEY_PARTS:
            arrays |= {f"{part} {n}": np.ascontiguousarray(v) for n, v in getattr(explanation.shapley, part).items()}
        arrays["told"] = np.frombuffer(json.dumps(described).encode(), dtype=np.uint8)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as partial:
            save_file(arrays, partial)
        return explanation


class FaithfulnessStore:
    """A folder of `faithfulness` tables; None keeps nothing."""

    def __init__(self, folder: Path | str | None):
        self.folder = None if folder is None else Path(folder)

    def entry(
        self,
        model: TrainedModel,
        scans: Mapping[str, PreparedScan],
        empty: torch.Tensor,
        explanation: Explanation,
        asked: Mapping[str, Any],
    ) -> FaithfulnessEntry:
        """The entry of one explanation's measures, identified by its map, its Shapley values and all settings."""
        if self.folder is None:
            return FaithfulnessEntry(None)
        digest = hashlib.sha256()
        for part in (explanation.maps, explanation.shapley.slices, explanation.shapley.weights):
            for name, values in part.items():
                digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
        described = {
            **asked,
            "faithfulness of": digest.hexdigest(),
            "target": explanation.target,
            "signed": explanation.signed,
        }
        place = ExplanationStore(self.folder).entry(model, scans, empty, described).path
        assert place is not None
        return FaithfulnessEntry(place.with_suffix(".json"))


class FaithfulnessEntry:
    """An entry of the store of measures."""

    def __init__(self, path: Path | None):
        self.path = path

    def read(self) -> pd.DataFrame | None:
        """The stored table; None if there is none, or it is damaged."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            stored = read_object(self.path, "a whole file", "Delete it.", finite=False)
            table = pd.DataFrame(stored["rows"], columns=stored["columns"])
            numbers = [name for name in table if name not in ("measure", "better")]
            return table.astype(dict.fromkeys(numbers, float))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, table: pd.DataFrame) -> pd.DataFrame:
        """Write a table atomically; returns it."""
        if self.path is not None:
            rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path, json.dumps({"columns": list(table), "rows": rows}))
        return table


def _grid_fields(grid: Grid) -> dict[str, Any]:
    return {"shape": grid.shape, "affine": grid.affine.tolist()}


def _grid(stored: dict[str, Any]) -> Grid:
    return Grid(tuple(stored["shape"]), np.array(stored["affine"]))
