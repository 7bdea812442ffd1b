"""What the model says of each case of a quiz: worked out beside, while the student looks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.prediction import Prediction, as_model, predict_patient
from cirrnb.model.trained_model import TrainedModel


class ModelAnswers:
    """Predictions for some bags, prepared as the model wants them, in a thread and in their order."""

    def __init__(self, model: TrainedModel | TrainedStager | Path | str, bags: Sequence[Bag]):
        self.model = as_model(model)
        self._bags = {bag.subject: bag for bag in bags}
        self._said: dict[str, Prediction | None] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._all, daemon=True)
        self._thread.start()

    def of(self, subject: str) -> Prediction | None:
        """The answer for a patient, at once where it is known already; None where the patient cannot be staged."""
        with self._lock:
            if subject not in self._said:
                self._said[subject] = self._predict(subject)
            return self._said[subject]

    def wait(self) -> None:
        """Until all are answered."""
        self._thread.join()

    def _all(self) -> None:
        for subject in self._bags:
            self.of(subject)

    def _predict(self, subject: str) -> Prediction | None:
        bag = self._bags.get(subject)
        if bag is None:
            return None
        try:
            return predict_patient(self.model, bag)
        except InputError:
            return None  # no sequence that the model can use
