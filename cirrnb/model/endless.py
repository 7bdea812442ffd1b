"""Training a stager on endless simulated patients, each seen with many contrasts, acquisitions and views.

Bodies are built once (`cirrnb.simulation.training_patients`). Their slices are drawn anew at every step, or come from
scans drawn once (`cirrnb.simulation.stored_views`) and changed a little at every step, which costs a small part of
that. The target is not one reader's stage but what the signs that the drawn sequences can show say of it, by the
benchmark's law: the network learns to weigh signs as Bayes' rule does, whatever population a body came from. Strengths
of the signs are targets as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from cirrnb.data.atomic_files import atomic_folder
from cirrnb.data.augmentation import Augmentation, Changes
from cirrnb.data.averaged_training import AveragedTraining, add_history, claim_request
from cirrnb.data.dataset import UNSTAGED, DrawnBag, random_stratified
from cirrnb.data.errors import InputError
from cirrnb.data.locks import locked
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.workers import Outcome, WorkerDied, in_parallel, processors
from cirrnb.model.batch import Batch, collate
from cirrnb.model.checkpoint import save_stager
from cirrnb.model.heads_and_losses import sign_loss
from cirrnb.model.known_patients import KnownPatients
from cirrnb.model.organ_naming import OrganNaming, moved
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager, Staging
from cirrnb.model.torch_context import isolated_torch, usable_device
from cirrnb.model.trained_model import load_model
from cirrnb.model.warm_start import begin_with
from cirrnb.simulation.ceiling import stage_posteriors
from cirrnb.simulation.populations import INDEPENDENT
from cirrnb.simulation.signs import CHANNELS
from cirrnb.simulation.stored_views import read_view, view_file, write_views
from cirrnb.simulation.training_patients import (
    TRAINING_VERSION,
    TrainingPatient,
    files_of,
    population_of_patient,
    read_training_patient,
    read_truth,
    write_training_patient,
)
from cirrnb.simulation.views import CLIP, VIEWS_VERSION, PreparedView, draw_view

STAGER = "stager"
"""Under which the stager's weights are stored, beside those of parts that training alone has."""
STATE, HISTORY = "state.safetensors", "history.csv"
CHANNEL_NAMES = tuple(channel.name for channel in CHANNELS)
PREPARATION = PreparationSettings(view="liver", spacing=2.0, field_of_view=(224.0, 256.0))
"""How scans are prepared that such a stager reads."""
STORED_CHANGES = Augmentation(rotation=6.0, shift=0.05, gain=0.1, gamma=0.1, noise=0.03, bias=0.15)
"""What is changed at each visit of a stored scan. The shift, up to 11 mm down and 13 mm across, covers outlines by a
program, which move the view."""
POPULATIONS = ("mixed", "independent")
Progress = Callable[[Iterator[Any], int, str], Iterator[Any]]
"""Wraps an iterator, given how many items it has in all and what they are."""


@dataclass(frozen=True)
class EndlessSettings:
    """How such a training goes; stored with the weights.

    Attributes
    ----------
    stager : what is trained.
    steps : of the optimiser. rate, decay : of AdamW. averaging : of the weights.
    fall : last share of the steps, over which the rate falls to nothing. precision : "float32" or "bfloat16".
    patients : bodies, numbered from 0, that are visited.
    occasions : scans of each body and sequence that are drawn once and kept; 0 draws anew at every visit.
    patients_per_step, slices : patients of a step, and slices of each of their sequences.
    sequence_dropout : share of visits in which one of the sequences is not drawn.
    population : "mixed", every patient; or "independent", only those whose signs follow neither severity nor each
        other, so that no sign can be predicted from another.
    stage_weight, sign_weight : of the losses of the stage and of the signs' strengths.
    known_share : of the patients of a step, how many come from a cohort whose signs are known.
    organ_weight : of the loss of the organs, pixel by pixel (`cirrnb.model.organ_naming`); 0 for none.
    keep_every : steps after which the mean is also kept in a folder of its own, step-NUMBER; 0 for never.
    seed : of first weights and of what the steps see.
    """

    stager: StagerSettings = field(
        default_factory=lambda: StagerSettings(pretrained=False, signs=CHANNEL_NAMES, dropout=0.1)
    )
    steps: int = 10_000
    rate: float = 7e-4
    decay: float = 0.05
    averaging: float = 0.998
    fall: float = 0.7
    precision: str = "bfloat16"
    patients: int = 1000
    occasions: int = 4
    patients_per_step: int = 8
    slices: int = 6
    sequence_dropout: float = 0.25
    population: str = "mixed"
    stage_weight: float = 1.0
    sign_weight: float = 1.0
    organ_weight: float = 0.0
    known_share: float = 0.0
    keep_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f'precision is "float32" or "bfloat16", not {self.precision!r}')
        if self.organ_weight and (not self.occasions or self.stager.encoders != "shared"):
            raise ValueError("organs are learned by a shared encoder from stored scans: occasions is 1 or more")
        if self.population not in POPULATIONS:
            raise ValueError(f"population is one of {', '.join(POPULATIONS)}, not {self.population!r}")
        if self.patients < self.patients_per_step:
            raise ValueError(f"{self.patients} patients are fewer than the {self.patients_per_step} of a step")
        if not 0 <= self.known_share <= 1:
            raise ValueError(f"known_share is between 0 and 1, not {self.known_share}")
        if not 0 <= self.fall <= 1:
            raise ValueError(f"fall is between 0 and 1, not {self.fall}")


@dataclass(frozen=True)
class Visit:
    """A step's patients and what is true of them.

    Attributes
    ----------
    batch : their slices.
    stage : (patients, 3) probability of each stage given the signs that the drawn sequences can show.
    shown, known : (patients, channels) strengths 0 to 1, and 1 where the drawn sequences can show the sign.
    organs : (slices, rows, columns) uint8, the number of the organ in `tissue_shares.ORGANS` from 1, 0 for none.
    """

    batch: Batch
    stage: torch.Tensor
    shown: torch.Tensor
    known: torch.Tensor
    organs: torch.Tensor

    def to(self, device: str) -> Visit:
        """The targets on another device; the slices stay where they are."""
        stage, shown, known = (tensor.to(device) for tensor in (self.stage, self.shown, self.known))
        return replace(self, stage=stage, shown=shown, known=known)


class Visits(IterableDataset[Visit]):
    """The steps from `first` on; what a step holds depends on its number alone."""

    def __init__(self, folder: Path, settings: EndlessSettings, first: int, known: KnownPatients | None = None) -> None:
        self.folder, self.settings, self.first, self.known = folder, settings, first, known
        self.numbers = patient_numbers(settings)

    def __iter__(self) -> Iterator[Visit]:
        torch.set_num_threads(1)
        worker = torch.utils.data.get_worker_info()
        start, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self.first + start, self.settings.steps, stride):
            yield visit(self.folder, self.settings, step, self.numbers, self.known)


def patient_numbers(settings: EndlessSettings) -> list[int]:
    """The training patients that are visited, the first of their population."""
    if settings.population == "mixed":
        return list(range(settings.patients))
    numbers = (number for number in count() if population_of_patient(number) is INDEPENDENT)
    return list(islice(numbers, settings.patients))


def visit(
    folder: Path,
    settings: EndlessSettings,
    step: int,
    numbers: Sequence[int] | None = None,
    known: KnownPatients | None = None,
) -> Visit:
    """The patients of one step, drawn from those with the given numbers, `patient_numbers(settings)` by default. A
    fraction `known_share` of them, the last ones, are known patients."""
    numbers = patient_numbers(settings) if numbers is None else numbers
    random = np.random.default_rng([settings.seed, 2, step])
    places = random.choice(len(numbers), settings.patients_per_step, replace=False)
    chosen = [numbers[place] for place in places]
    of_cohort = round(settings.known_share * settings.patients_per_step) if known else 0
    others = random.choice(len(known), of_cohort, replace=False) if known else ()
    drawn, shown, sequences, organs = [], [], [], []
    for number, endless in [*((number, True) for number in chosen[of_cohort:]), *((int(n), False) for n in others)]:
        wanted = list(settings.stager.sequences)
        if random.random() < settings.sequence_dropout and len(wanted) > 1:
            wanted.remove(str(random.choice(wanted)))
        if endless or known is None:
            patient, views = _views(folder, settings, number, wanted, random)
            strengths = [patient.shown[name] for name in CHANNEL_NAMES]
        else:
            views = {name: known.view(number, name, settings.slices, STORED_CHANGES, random) for name in wanted}
            strengths = known.shown[number].tolist()
        drawn.append(
            DrawnBag(
                slices=torch.cat([view.image for view in views.values()])[:, None],
                sequence=torch.cat(
                    [
                        torch.full((len(view.image),), settings.stager.sequences.index(name))
                        for name, view in views.items()
                    ]
                ),
                position=torch.cat([view.position for view in views.values()]),
                person=torch.zeros(4),
                stage=UNSTAGED,
                sequences=settings.stager.sequences,
            )
        )
        organs += [view.label for view in views.values()]
        shown.append(strengths)
        sequences.append(wanted)
    shown_strengths = np.array(shown)
    seen = np.array(
        [[bool(set(channel.sequences) & set(available)) for channel in CHANNELS] for available in sequences]
    )
    return Visit(
        collate(drawn),
        torch.from_numpy(stage_by_signs(shown_strengths, seen)).float(),
        torch.from_numpy(shown_strengths).float(),
        torch.from_numpy(seen).float(),
        torch.cat(organs),
    )


def _views(
    folder: Path, settings: EndlessSettings, number: int, wanted: list[str], random: np.random.Generator
) -> tuple[TrainingPatient, dict[str, PreparedView]]:
    """A patient's truth, and slices of the wanted sequences, drawn now or stored."""
    if not settings.occasions:
        patient, anatomy = read_training_patient(folder, number)
        return patient, {name: draw_view(anatomy, random, name, settings.slices) for name in wanted}
    views = {}
    for name in wanted:
        stored = read_view(folder, number, name, int(random.integers(settings.occasions)))
        chosen = random_stratified(len(stored.image), settings.slices, random)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        changes, label = Changes.draw(len(chosen), STORED_CHANGES, generator), stored.label[chosen]
        image = changes.apply(stored.image[chosen][:, None])[:, 0].clamp(*CLIP)
        label = moved(label, changes) if settings.organ_weight else label
        views[name] = PreparedView(image, stored.position[chosen], label)
    return read_truth(folder, number), views


def stage_by_signs(shown: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(patients, 3) probability of each stage given the strengths (patients, channels) of known signs, by the
    benchmark's generative model: strengths become values of its channels; an absent sign lies below the onset."""
    onset = np.array([channel.onset for channel in CHANNELS])
    values = np.where(shown > 0, onset + shown * (2.4 - onset), onset - 1e-9)
    return np.concatenate(
        [stage_posteriors(value[None], np.flatnonzero(mask)) for value, mask in zip(values, known, strict=True)]
    )


def loss_of(staging: Staging, seen: Visit, sign_weight: float, stage_weight: float = 1.0) -> torch.Tensor:
    """Cross-entropy of the stage, of the strengths of the signs, and of the stage by the signs alone, which does not
    change the strengths. A stager without sign outputs learns the stage alone."""
    stage = stage_weight * -(seen.stage * staging.log_probabilities.float()).sum(dim=1)
    if staging.signs is None or staging.signs_log_probabilities is None:
        return stage.mean()
    alone = -(seen.stage * staging.signs_log_probabilities.float()).sum(dim=1)
    return (stage + alone + sign_weight * sign_loss(staging.signs.float(), seen.shown, seen.known)).mean()


def unwatched(items: Iterator[Any], total: int, what: str) -> Iterator[Any]:
    return items


@isolated_torch()
def train_endless(
    out: Path | str,
    settings: EndlessSettings | None = None,
    *,
    bodies: Path | str | None = None,
    start: Path | str | None = None,
    known: KnownPatients | None = None,
    device: str = "cpu",
    minutes: float = 5.0,
    readers: int = 1,
    progress: Progress = unwatched,
) -> Path:
    """Train a stager with sign outputs; called again with the same arguments it resumes where it stopped.

    Parameters
    ----------
    out : folder for config.json, model.safetensors and history.csv; and until it is done for the training's state.
    bodies : folder in which training patients are kept and looked for; by default `out`/bodies.
    start : run folder of a stager with the same backbone, or "shipped", whose weights the training begins with; parts
        that only one of the two has begin at random.
    known : patients of a cohort that are visited too, where `known_share` says so.
    minutes : between two stored states.
    readers : processes that draw visits; what they draw does not depend on their number.

    Raises
    ------
    InputError
        If `out` holds a training with other settings, or one at work, `start` has another backbone, or there is no
        such device.
    """
    settings, out = settings or EndlessSettings(), Path(out)
    usable_device(device)
    begin = load_model(start) if start is not None else None
    request = json.loads(json.dumps(_described(settings)))
    if begin is not None:
        request["start"] = begin.fingerprint
    if known is not None:
        request["known"] = known.described
        needed = round(settings.known_share * settings.patients_per_step)
        if len(known) < needed:
            raise InputError(known.name, f"{len(known)} patients", f"{needed} or more", "Use a larger cohort.")
    with locked(out):
        claim_request(out, request)
        folder = Path(bodies) if bodies else out / "bodies"
        build_training_patients(folder, patient_numbers(settings), settings.occasions, progress)
        torch.manual_seed(settings.seed)
        stager = Stager(settings.stager, fetch=False).train().to(device)
        if begin is not None:
            begin_with(stager, begin.members[0].stager, begin.name)
        organs = OrganNaming(stager).to(device) if settings.organ_weight else None
        training = AveragedTraining(
            nn.ModuleDict({STAGER: stager, **({"organs": organs} if organs else {})}),
            steps=settings.steps,
            rate=settings.rate,
            decay=settings.decay,
            averaging=settings.averaging,
            fall=settings.fall,
        )
        kind = torch.device(device).type
        first = training.restore(out / STATE)
        loader = DataLoader(
            Visits(folder, settings, first, known),
            batch_size=None,
            num_workers=readers,
            prefetch_factor=8 if readers else None,
        )
        written = time.monotonic()
        for step, seen in enumerate(progress(iter(loader), settings.steps - first, "training"), start=first):
            torch.manual_seed(settings.seed * 1_000_003 + step)  # of dropout, so that a resumed training draws alike
            with torch.autocast(kind, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                staging = stager.stage(seen.batch.to(device))
                loss = settings.organ_weight * organs.loss(seen.organs.to(device)) if organs else 0.0
            seen = seen.to(device)
            loss = loss + loss_of(staging, seen, settings.sign_weight, settings.stage_weight)
            training.update(step, loss)
            if settings.keep_every and (step + 1) % settings.keep_every == 0:
                _save(out / f"step-{step + 1}", training, settings, request, step + 1)
            if step + 1 == settings.steps or time.monotonic() - written > 60 * minutes:
                training.store(out / STATE, step + 1)
                add_history(out / HISTORY, training.losses)
                written = time.monotonic()
        _save(out, training, settings, request, settings.steps)
    return out


def build_training_patients(
    folder: Path, numbers: Sequence[int], occasions: int = 0, progress: Progress = unwatched
) -> None:
    """Training patients of the given numbers in a folder, and `occasions` scans of each sequence.

    Those that are missing are built now, in parallel."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        {"folder": str(folder), "number": number, "occasions": occasions}
        for number in numbers
        if not all(path.is_file() for path in _expected(folder, number, occasions))
    ]
    if jobs:
        outcomes = in_parallel(jobs, min(processors(), len(jobs)), __name__)
        for _, outcome in progress(outcomes, len(jobs), "building patients"):
            if isinstance(outcome, WorkerDied):
                raise InputError(folder, str(outcome), "free space and memory for it", "Start it again; it resumes.")


def _expected(folder: Path, number: int, occasions: int) -> list[Path]:
    scans = [view_file(folder, number, name, occasion) for name in T1W_T2W for occasion in range(occasions)]
    return [files_of(folder, number)[1], *scans]


def run_job(job: dict[str, Any]) -> Outcome:
    """Build one patient and its scans, for `cirrnb.data.workers`."""
    folder, number = Path(job["folder"]), int(job["number"])
    if not files_of(folder, number)[1].is_file():
        write_training_patient(folder, number)
    write_views(folder, number, int(job["occasions"]))
    return {}


def _described(settings: EndlessSettings) -> dict[str, Any]:
    versions = {"training patients": TRAINING_VERSION, "views": VIEWS_VERSION}
    return {**asdict(settings), "stager": settings.stager.stored(), "versions": versions}


def _save(
    folder: Path, training: AveragedTraining, settings: EndlessSettings, request: dict[str, Any], done: int
) -> None:
    """The stager with the mean of the weights, as a run folder without calibration."""
    stager = Stager(settings.stager, fetch=False)
    like = stager.state_dict()
    mean = {name.removeprefix(f"{STAGER}."): value for name, value in training.mean.items()}
    stager.load_state_dict({name: mean[name].cpu().to(value.dtype) for name, value in like.items()})
    config = {
        "training": {**request, "done": done},
        "preparation": asdict(PREPARATION),
        "cohort": "endless simulated patients",
        "simulated": True,
        "splits": {},
    }
    if folder.exists():
        save_stager(folder, stager.eval(), config)
        return
    with atomic_folder(folder) as partial:
        save_stager(partial, stager.eval(), config)
