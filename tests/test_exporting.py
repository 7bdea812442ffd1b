"""A stager as TorchScript says what the stager says."""

from __future__ import annotations

import json

import pytest
import torch
from toy_patients import LARGE, toy_cohort

from cirrnb.data.dataset import draw
from cirrnb.data.errors import InputError
from cirrnb.model.batch import collate
from cirrnb.model.checkpoint import TrainedStager, load_stager, save_stager
from cirrnb.model.exporting import export_model
from cirrnb.model.settings import StagerSettings, TrainingSettings
from cirrnb.model.stager import Stager

PLAIN = StagerSettings(width=16, pretrained=False)
KINDS = {
    "cross attention": PLAIN,
    "separate encoders": StagerSettings(width=16, pretrained=False, encoders="separate", fusion="weighted"),
    "single slices": TrainingSettings.preset("reference", backbone="test_resnet", pretrained=False).stager,
}


@pytest.mark.parametrize("kind", KINDS)
def test_exported_and_stager_say_the_same(kind, tmp_path):
    torch.manual_seed(0)
    stager = Stager(KINDS[kind]).eval()
    (tmp_path / "run").mkdir()
    config = {"preparation": LARGE.stored(), "simulated": True, "cohort": "toys", "training": {}}
    save_stager(tmp_path / "run", stager, config)
    made = export_model(tmp_path / "run", tmp_path / "out")
    told = json.loads((made / "model.json").read_text())
    names = told["sequences"]
    assert told["largest difference"] < 1e-4 and told["rows and columns"] == [64, 72]
    assert (made / f"{'+'.join(names)}.pt").is_file() and (made / f"{names[0]}.pt").is_file()
    trained: TrainedStager = load_stager(tmp_path / "run")
    for bag in toy_cohort(tmp_path / "scans", {"train": 2}, settings=LARGE).bags():
        for seen in {tuple(names), (names[0],)}:
            batch = collate([draw(bag.only(seen), sequences=trained.stager.sequences)])
            script = torch.jit.load(str(made / f"{'+'.join(seen)}.pt"))
            with torch.no_grad():
                said = script(batch.slices, batch.sequence, batch.position, batch.person)
                expected = trained.stager.stage(batch).log_probabilities.exp()
            torch.testing.assert_close(said, expected, atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="new folder"):
        export_model(tmp_path / "run", tmp_path / "out")
