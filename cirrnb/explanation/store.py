"""Explanations kept on disk: whole or absent, keyed by model, patient and settings, safe to delete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cirrnb.data.atomic_files import replacing, write_whole
from cirrnb.data.grid import Grid
from cirrnb.data.json_file import parse_json, read_object
from cirrnb.data.plugins import loaded_plugins
from cirrnb.data.prepared import PreparedScan
from cirrnb.explanation.explanation import Explanation
from cirrnb.explanation.shares import Shares
from cirrnb.model.trained import TrainedModel

VERSION = 3
"""Part of every key. Raise it when the same question is answered otherwise than before."""

_SHARES = ("slices", "errors", "weights")


class ExplanationStore:
    """A folder of explanations; None keeps nothing."""

    def __init__(self, folder: Path | str | None):
        self.folder = None if folder is None else Path(folder)

    def entry(
        self, model: TrainedModel, scans: Mapping[str, PreparedScan], baseline: torch.Tensor, asked: Mapping[str, Any]
    ) -> Entry:
        """Where the answer to one question lies: of this model (its weights), these scans and all that was asked."""
        if self.folder is None:
            return Entry(None)
        digest = hashlib.sha256(json.dumps([VERSION, asked], sort_keys=True).encode())
        if plugins := loaded_plugins():  # an edited plug-in may answer otherwise
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
            told = parse_json(arrays.pop("told").tobytes().decode("utf-8"), finite=False)
            maps = {name: arrays[f"map {name}"] for name in told["grids"]}
            parts = {part: {name: arrays[f"{part} {name}"] for name in told["grids"]} for part in _SHARES}
            grids, source_grids = ({n: _grid(g) for n, g in told.pop(key).items()} for key in ("grids", "source_grids"))
            shares = Shares(sequences=told.pop("sequences"), nothing=told.pop("nothing"), **parts)
            told["notes"] = tuple(told["notes"])
            return Explanation(maps=maps, grids=grids, source_grids=source_grids, shares=shares, **told)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, explanation: Explanation) -> Explanation:
        """Keep an explanation, beside first and then renamed; returns it."""
        if self.path is None:
            return explanation
        told: dict[str, Any] = {
            name: getattr(explanation, name)
            for name in explanation.__dataclass_fields__
            if name not in ("maps", "grids", "source_grids", "shares", "files")
        }
        told["grids"] = {name: _told(grid) for name, grid in explanation.grids.items()}
        told["source_grids"] = {name: _told(grid) for name, grid in explanation.source_grids.items()}
        told |= {"sequences": dict(explanation.shares.sequences), "nothing": explanation.shares.nothing}
        arrays = {f"map {name}": np.ascontiguousarray(one) for name, one in explanation.maps.items()}
        for part in _SHARES:
            arrays |= {f"{part} {n}": np.ascontiguousarray(v) for n, v in getattr(explanation.shares, part).items()}
        arrays["told"] = np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as beside:
            save_file(arrays, beside)
        return explanation


class WorthStore:
    """A folder of what explanations are worth, as `faithfulness` measured; None keeps nothing."""

    def __init__(self, folder: Path | str | None):
        self.folder = None if folder is None else Path(folder)

    def entry(
        self,
        model: TrainedModel,
        scans: Mapping[str, PreparedScan],
        empty: torch.Tensor,
        explanation: Explanation,
        asked: Mapping[str, Any],
    ) -> WorthEntry:
        """Where the measures of one explanation lie: of this very map and its shares, and all that was asked."""
        if self.folder is None:
            return WorthEntry(None)
        digest = hashlib.sha256()
        for part in (explanation.maps, explanation.shares.slices, explanation.shares.weights):
            for name, values in part.items():
                digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
        told = {**asked, "worth of": digest.hexdigest(), "target": explanation.target, "signed": explanation.signed}
        place = ExplanationStore(self.folder).entry(model, scans, empty, told).path
        assert place is not None
        return WorthEntry(place.with_suffix(".json"))


class WorthEntry:
    """One place in the store of measures."""

    def __init__(self, path: Path | None):
        self.path = path

    def read(self) -> pd.DataFrame | None:
        """The table that lies here; None where there is none, or it is damaged."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            told = read_object(self.path, "a whole file", "Delete it.", finite=False)
            table = pd.DataFrame(told["rows"], columns=told["columns"])
            numbers = [name for name in table if name not in ("measure", "better")]
            return table.astype(dict.fromkeys(numbers, float))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, table: pd.DataFrame) -> pd.DataFrame:
        """Keep a table, beside first and then renamed; returns it."""
        if self.path is not None:
            rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps({"columns": list(table), "rows": rows}))
        return table


def _told(grid: Grid) -> dict[str, Any]:
    return {"shape": grid.shape, "affine": grid.affine.tolist()}


def _grid(told: dict[str, Any]) -> Grid:
    return Grid(tuple(told["shape"]), np.array(told["affine"]))
