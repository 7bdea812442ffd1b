"""Train the maps of a stager, which show where each sign is, on simulated patients, whose signs are known pixel by
pixel. The other weights, and so the stages, do not change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate
from tqdm.auto import tqdm

from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.explanation.localisation import auroc, body
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.model.batch import Batch
from cirrnb.model.checkpoint import load_stager, save_stager
from cirrnb.model.prediction import patient_batch
from cirrnb.model.signs import visible
from cirrnb.model.stager import Stager
from cirrnb.model.torch_context import isolated_torch
from cirrnb.model.trained_model import SIGN_READER, TrainedModel
from cirrnb.model.usable_scans import usable
from cirrnb.simulation.signs import CHANNELS, SIGNS

RATE = 3e-3
SLICES = 24
"""Slices of a patient that one step sees."""


@dataclass(frozen=True)
class _Marked:
    """A patient's slices, and (slices, rows, columns) uint8 the number of the sign at each pixel, 0 for none."""

    batch: Batch
    evidence: torch.Tensor


@isolated_torch()
def train_sign_maps(
    run: Path | str,
    bags: Sequence[Bag],
    truth: SimulatedTruth,
    *,
    out: Path | str,
    passes: int = 4,
    seed: int = 0,
    progress: bool = False,
) -> TrainedModel:
    """Train a map of each sign for a stager with sign outputs, and write the stager into a new folder.

    Parameters
    ----------
    run : folder of a single stager with sign outputs.
    bags : simulated patients, prepared as for the stager. truth : of their cohort.
    out : folder that does not exist yet; config.json and model.safetensors are written, and no calibration.
    passes : over the patients.

    Raises
    ------
    InputError
        If the run has no sign outputs or is a model with a sign reader, whose maps are that network's; or `out` exists.
    """
    trained, out = load_stager(run), Path(out)
    if out.exists():
        raise InputError(out, "a folder or file that exists", "a new folder", "Choose another one.")
    if (Path(run) / SIGN_READER).is_dir():
        problem, expected = "a model whose signs another network reads", "a single stager"
        raise InputError(trained.name, problem, expected, f"Name the network: {Path(run) / SIGN_READER}.")
    if not trained.stager.settings.signs:
        remedy = "Train one with cirrnb train-simulated."
        raise InputError(trained.name, "a stager without sign outputs", "one with them", remedy)
    torch.manual_seed(seed)
    stager = Stager(
        replace(trained.stager.settings, maps=True),
        fetch=False,
        stages=trained.stager.stages,
        sequences=trained.stager.sequences,
    )
    stager.backbone_weights = trained.stager.backbone_weights
    missing = stager.load_state_dict(trained.stager.state_dict(), strict=False).missing_keys
    assert all(name.startswith("maps.") for name in missing)
    model = TrainedModel((replace(trained, stager=stager.eval()),), trained.name)
    maps = stager.maps
    assert maps is not None
    optimiser = torch.optim.AdamW(maps.parameters(), lr=RATE)
    total = passes * len(bags)
    random = np.random.default_rng(seed)
    visits = _visits(model, bags, truth, passes, random)
    for step, seen in enumerate(tqdm(visits, total=total, desc="maps of signs", disable=not progress)):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 20) * (1 - step / total)
        loss = map_loss(stager, seen.batch, seen.evidence)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    out.mkdir(parents=True)
    save_stager(out, stager, {**trained.config, "stager": stager.settings.stored()})
    return TrainedModel((load_stager(out),), out.name)


def _visits(
    model: TrainedModel, bags: Sequence[Bag], truth: SimulatedTruth, passes: int, random: np.random.Generator
) -> Iterator[_Marked]:
    for _ in range(passes):
        for number in random.permutation(len(bags)):
            marked = _marked(model, bags[number], truth)
            chosen = torch.from_numpy(np.sort(random.permutation(len(marked.evidence))[:SLICES]))
            batch = marked.batch
            part = replace(
                batch,
                slices=batch.slices[chosen],
                sequence=batch.sequence[chosen],
                patient=batch.patient[chosen],
                position=batch.position[chosen],
            )
            yield _Marked(part, marked.evidence[chosen])


def _marked(model: TrainedModel, bag: Bag, truth: SimulatedTruth) -> _Marked:
    used, _ = usable(model, bag)
    evidence = np.concatenate([truth.evidence(scan) for scan in used.values()])
    return _Marked(patient_batch(model, used), torch.from_numpy(evidence))


def map_loss(stager: Stager, batch: Batch, evidence: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the maps over the pixels, for the signs that each slice's sequence can show.

    `evidence` is (slices, rows, columns) uint8, numbered as in `SIGNS` from 1. The encoder gets no gradient.
    """
    assert stager.maps is not None
    losses, count = batch.slices.new_zeros(()), 0
    for encoder, chosen in stager.readers(batch):
        with torch.no_grad():
            features = encoder.features(batch.slices[chosen])
        log_odds = interpolate(stager.maps(features), size=batch.slices.shape[-2:], mode="bilinear")
        for place, name in enumerate(stager.settings.signs):
            label = _label(name)
            shows = torch.tensor([visible([name], [sequence])[0] for sequence in batch.sequences])
            shown = shows[batch.sequence[chosen]]
            if label and bool(shown.any()):
                wanted = (evidence[chosen][shown] == label).float()
                losses = losses + binary_cross_entropy_with_logits(log_odds[shown, place], wanted)
                count += 1
    return losses / max(count, 1)


def _label(name: str) -> int:
    """Number of a sign in the evidence, 0 for a sign that the simulator does not know."""
    return next((SIGNS.index(channel.sign) + 1 for channel in CHANNELS if channel.name == name), 0)


def _maps_of(stager: Stager, batch: Batch) -> torch.Tensor | None:
    """The maps of a batch on the CPU, computed where the stager is."""
    maps = stager.sign_maps(batch.to(next(stager.parameters()).device), chunk=32)
    return None if maps is None else maps.cpu()


def _mean_maps(model: TrainedModel, batch: Batch) -> NDArray[np.float32]:
    """(slices, signs, rows, columns) mean of the maps of a model's members."""
    every = [_maps_of(member.stager.eval(), batch) for member in model.members]
    return torch.stack([maps for maps in every if maps is not None]).mean(dim=0).numpy()


@isolated_torch()
def own_sign_maps(model: TrainedModel, bag: Bag) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Sequence -> sign -> (slices, rows, columns) probability of the sign at a pixel, for the signs that the sequence
    can show; the mean of the stagers. Empty for a model without maps of signs.

    Raises InputError if no sequence of the patient can be used.
    """
    names = model.signs
    if not model.for_signs.members[0].stager.settings.maps:
        return {}
    used, _ = usable(model, bag)
    batch = patient_batch(model, used)
    mean = _mean_maps(model.for_signs, batch)
    if model.own_signs:
        columns, of_members = [names.index(name) for name in model.own_signs], _mean_maps(model, batch)
        mean[:, columns] = of_members[:, columns]
    maps = {}
    for sequence in used:
        number = batch.sequences.index(sequence)
        chances, is_visible = mean[batch.sequence.numpy() == number], visible(names, [sequence])
        maps[sequence] = {name: chances[:, place] for place, name in enumerate(names) if is_visible[place]}
    return maps


@isolated_torch()
def score_sign_maps(model: TrainedModel, bags: Sequence[Bag], truth: SimulatedTruth) -> pd.DataFrame:
    """AUROC with which the maps of `own_sign_maps` separate pixels of a sign from the rest of the body.

    One row per patient, sequence and sign that is in the scan: subject, sequence, sign (of `SIGNS`), pixels, auroc.

    Raises InputError for a stager without maps.
    """
    if not model.for_signs.members[0].stager.settings.maps:
        raise InputError(model.name, "a stager without maps of signs", "one with them", "Use cirrnb train-sign-maps.")
    rows = []
    for bag in bags:
        used, _ = usable(model, bag)
        for sequence, maps in own_sign_maps(model, bag).items():
            evidence, inside = truth.evidence(used[sequence]), body(used[sequence])
            for name, chances in maps.items():
                label = _label(name)
                of_sign = (evidence == label) & inside
                if not label or not of_sign.any():
                    continue
                area = auroc(chances[of_sign], chances[inside & ~of_sign])
                rows.append((bag.subject, sequence, SIGNS[label - 1], int(of_sign.sum()), area))
    return pd.DataFrame(rows, columns=["subject", "sequence", "sign", "pixels", "auroc"])
