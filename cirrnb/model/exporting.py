"""A stager as TorchScript, for use where this package is not: one file for each combination of sequences."""

from __future__ import annotations

import json
import warnings
from itertools import combinations
from pathlib import Path

import torch
from torch import nn

from cirrnb.data.atomic_files import atomic_folder
from cirrnb.data.errors import InputError
from cirrnb.model.batch import Batch, Layout
from cirrnb.model.stager import Stager
from cirrnb.model.torch_context import isolated_torch
from cirrnb.model.trained_model import as_model

TOLERATED = 1e-4
"""Largest difference of a probability between the exported network and the stager."""
DESCRIPTION = "model.json"


class OnePatient(nn.Module):
    """Stages one patient who has exactly some sequences: the mean over the members of a model, not calibrated."""

    def __init__(self, members: list[Stager], sequences: tuple[str, ...]):
        super().__init__()
        self.members, self.names = nn.ModuleList(members), members[0].sequences
        numbers = [self.names.index(name) for name in sequences]
        places = torch.full((len(self.names),), -1)
        places[numbers] = torch.arange(len(numbers))
        self.register_buffer("groups", torch.tensor(numbers))
        self.register_buffer("places", places)

    def forward(
        self, slices: torch.Tensor, sequence: torch.Tensor, position: torch.Tensor, person: torch.Tensor
    ) -> torch.Tensor:
        """(1, stages) probabilities of slices (slices, 1, rows, columns) float32, sequence (slices,) int64 in the order
        of the description, position (slices,) mm, person (1, 4) as `cirrnb.data.dataset.DrawnBag` has it."""
        nobody = torch.zeros_like(sequence)
        batch = Batch(slices, sequence, nobody, position, person, nobody[:1], self.names)
        places, groups = self.get_buffer("places"), self.get_buffer("groups")
        indices = tuple(torch.nonzero(sequence == number)[:, 0] for number in range(len(self.names)))
        batch = batch.laid_out(Layout(groups, places[sequence], indices))
        answers = [member.stage(batch).log_probabilities.exp() for member in self.members]  # type: ignore[operator]
        return torch.stack(answers).mean(dim=0)


@isolated_torch()
def export_model(run: Path | str, out: Path | str) -> Path:
    """Write a model as TorchScript into a new folder: `T1W+T2W.pt`, `T1W.pt`, `T2W.pt`, and `model.json` with the
    stages, the sequences, the preparation and the parts of the model that the files omit. Returns the folder.

    Each file is run on other numbers of slices than it was traced with, and compared with the stager.

    Raises InputError if the folder exists, or the outputs of an exported network differ from the stager's.
    """
    trained, out = as_model(run), Path(out)
    if out.exists():
        raise InputError(out, "a folder that exists", "a new folder", "Give another one.")
    members = [member.stager.eval().cpu() for member in trained.members]
    size = trained.preparation.size
    with atomic_folder(out) as partial:
        largest = 0.0
        for count in range(1, len(trained.sequences) + 1):
            for names in combinations(trained.sequences, count):
                network = OnePatient(members, names).eval()
                script = _traced(network, names, size)
                largest = max(largest, _difference(network, script, names, size))
                script.save(str(partial / f"{'+'.join(names)}.pt"))
        if largest > TOLERATED:
            problem = f"probabilities that differ by {largest:.2g} from the stager's"
            raise InputError(out, problem, f"a difference up to {TOLERATED:g}", "This network cannot be traced.")
        description = {
            "model": trained.name,
            "fingerprint": trained.fingerprint,
            "stages": list(trained.stages),
            "sequences": list(members[0].sequences),
            "preparation": trained.preparation.stored(),
            "rows and columns": list(size),
            "inputs": ["slices", "sequence", "position", "person"],
            "largest difference": largest,
            "left out": [
                name
                for name, part in (
                    ("calibration", trained.calibration),
                    ("measurements", trained.measured),
                    ("adaptation to a site", trained.adaptation),
                    ("check for unusual scans", trained.out_of_distribution),
                )
                if part is not None
            ],
            "simulated": trained.simulated,
            "note": "Research and education only. Not a medical device, no diagnosis.",
        }
        (partial / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return out


Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _traced(network: OnePatient, names: tuple[str, ...], size: tuple[int, int]) -> torch.jit.ScriptModule:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the checks of what is handed in, which a trace leaves out
        script: torch.jit.ScriptModule = torch.jit.trace(network, _example(network, names, size, 5), check_trace=False)
    return script


def _difference(
    network: OnePatient, script: torch.jit.ScriptModule, names: tuple[str, ...], size: tuple[int, int]
) -> float:
    """Largest difference of a probability, on two patients with other numbers of slices."""
    with torch.no_grad():
        examples = [_example(network, names, size, count) for count in (3, 9)]
        return max(float((network(*example) - script(*example)).abs().max()) for example in examples)


def _example(network: OnePatient, names: tuple[str, ...], size: tuple[int, int], count: int) -> Inputs:
    """A patient with `count` slices of the first sequence, and one more of each that follows."""
    generator = torch.Generator().manual_seed(count)
    numbers = [network.names.index(name) for name in names]
    counts = torch.tensor([count + place for place in range(len(names))])
    sequence = torch.repeat_interleave(torch.tensor(numbers), counts)
    slices = torch.rand(len(sequence), 1, *size, generator=generator)
    position = torch.cat([torch.arange(int(number)) * 7.0 for number in counts])
    return slices, sequence, position, torch.zeros(1, 4)
