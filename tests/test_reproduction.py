"""The reference paper's rows: what is comparable, worked out from data; preparation of whole slices; a rehearsal."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from toy_patients import toy_cohort

import cirrnb
from cirrnb.benchmark import protocol, reproduction
from cirrnb.benchmark.protocol import NO, UNKNOWN, YES, Line, comparable
from cirrnb.benchmark.reproduction import Reproduction, Row, given_options, rows_of
from cirrnb.data import splits
from cirrnb.data.augmentation import Augmentation
from cirrnb.data.errors import InputError
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import SPLITS, Cohort, Scan
from cirrnb.model.backbones import build_backbone, weights_used
from cirrnb.model.checkpoint import load_stager
from cirrnb.model.classifiers import require_size
from cirrnb.model.first_weights import FirstWeights, key_table, read_weights
from cirrnb.model.prediction import predict, predict_own_cohort, predict_slices
from cirrnb.model.run_folder import read_history, read_predictions, read_slice_predictions
from cirrnb.model.schedule import batches_of_epoch, has_stopped
from cirrnb.model.settings import StagerSettings, TrainingSettings, given_settings
from cirrnb.model.stager import Stager
from cirrnb.model.training import decaying, train
from cirrnb.preparation.standardisation import standardise
from cirrnb.run.execution import find_notebook
from cirrnb.run.parameters import convert, read_schema

SMALL = PreparationSettings(view="slice", pixels=(20, 24))
QUICK = TrainingSettings.preset("reference", backbone="test_resnet", pretrained=False, epochs=2, batch=5)


def lines(**same: str) -> list[Line]:
    return [Line(what.replace("_", " "), "as published", f"{what} here", value) for what, value in same.items()]


def test_comparable_is_worked_out():
    alike = {"patients": YES, "test_slices": YES, "images": YES, "seed": UNKNOWN}
    assert comparable(lines(**alike), simulated=False) == "yes"
    assert comparable(lines(**{**alike, "test_slices": UNKNOWN}), False) == "same patients, slices unknown"
    told = comparable(lines(**{**alike, "images": NO}), False)
    assert told.startswith("no") and "images here" in told
    assert comparable(lines(**alike), simulated=True) == "no: simulated patients"


def published_like(folder: Path, sequence: str, mild: int) -> tuple[Path, Cohort]:
    """A run folder as the reference preset leaves it, on 234 / 28 / 29 patients, and their cohort."""
    scans, rows = [], []
    for number in range(291):
        split = "train" if number < 234 else "valid" if number < 262 else "test"
        stage = "mild" if number % 2 else "severe"
        scans += [Scan(str(number), name, Path("x.nii"), stage=stage, split=split) for name in ("T1W", "T2W")]
        rows.append({"subject": scans[-1].subject, "stage": stage, "split": split, "predicted": stage})
    folder.mkdir()
    pd.DataFrame(rows).assign(patient="", source="", sex="").to_csv(folder / "predictions.csv", index=False)
    slices = [{"subject": rows[-1]["subject"], "stage": "mild" if n < mild else "severe"} for n in range(1000)]
    table = pd.DataFrame(slices).assign(split="test", predicted="mild", sequence=sequence)
    table.to_csv(folder / "slice_predictions.csv", index=False)
    settings = TrainingSettings.preset("reference", sequences=(sequence,))
    config = {"training": settings.stored(), "stager": settings.stager.stored()}
    config |= {"preparation": TrainingSettings.preparation("reference").stored()}
    config["backbone_weights"] = "pretrained: vgg19 of timm 1"
    (folder / "config.json").write_text(json.dumps(config))
    return folder, Cohort(tuple(scans), "published", simulated=False)


@pytest.mark.parametrize(
    ("sequence", "mild", "expected"),
    [("T2W", 516, "yes"), ("T2W", 530, "same patients, slices unknown"), ("T1W", 560, "same patients, slices unknown")],
)
def test_the_preset_is_the_protocol(tmp_path, sequence, mild, expected):
    run, cohort = published_like(tmp_path / "run", sequence, mild)
    found = protocol.lines(run, cohort)
    assert [line for line in found if line.same == NO] == []
    assert comparable(found, cohort.simulated) == expected
    as_many = comparable(protocol.lines(run, None), simulated=False)
    assert as_many.startswith("as many patients")
    moved = cohort.with_splits({**{scan.subject: scan.split for scan in cohort.scans}, cohort.scans[0].subject: "test"})
    assert "patients" in comparable(protocol.lines(run, moved), False)


def test_every_deviation_has_a_line(tmp_path):
    run, cohort = published_like(tmp_path / "run", "T2W", 516)
    stored = json.loads((run / "config.json").read_text())
    changed = {
        "batch": 16, "epochs": 60, "learning_rate": 1e-3, "weight_decay": 0.05, "schedule": "one_cycle", "patience": 5,
        "keep": "last", "decay": "all", "balance": "focal", "augmentation": None, "steps": 1,
    }  # fmt: skip
    for name, value in changed.items():
        config = {**stored, "training": {**stored["training"], name: value}}
        if name == "decay":
            del config["training"]["decay"]
        (run / "config.json").write_text(json.dumps(config))
        assert [line for line in protocol.lines(run, cohort) if line.same == NO], name
    looks = PreparationSettings(view="slice", pixels=(128, 128)).stored()
    (run / "config.json").write_text(json.dumps({**stored, "preparation": looks, "backbone_weights": "random"}))
    assert [line.what for line in protocol.lines(run, cohort) if line.same == NO] == ["images", "first weights"]


def test_rows_by_the_papers_names_and_any_other(tmp_path):
    rows = rows_of(["VGG-19", "resnet18", "convnext_atto"], ["T1W", "T2W"])
    assert [row.name for row in rows[:3]] == ["vgg19-T1W", "resnet18-T1W", "convnext_atto-T1W"]
    assert rows[1].network == "ResNet-18" and rows[0].published == 0.728 and rows[3].published is None
    assert set(reproduction.NETWORKS.values()) == {"vgg19", "resnet18", "resnet50", "pvt_v2_b2", "mambavision_t"}
    for wrong in (["resnet18", "ResNet-18"], []):
        with pytest.raises(InputError):
            rows_of(wrong, ["T1W"])
    assert given_options("pixels=128, epochs=60") == {"pixels": "128", "epochs": "60"} and given_options(None) == {}
    with pytest.raises(InputError):
        given_options("pixels")
    weights = tmp_path / "w"
    weights.mkdir()
    (weights / "resnet18.safetensors").touch()
    whole = Reproduction(Path("c"), Path("p"), Path("r"), Path("s"), weights, {"pixels": "128"})
    command = whole.command(rows[1], epochs=2)
    assert command[command.index("--weights") + 1].endswith("resnet18.safetensors")
    assert command[command.index("--pixels") + 1] == "128" and command[command.index("--epochs") + 1] == "2"
    assert "--weights" not in whole.command(rows[0])


def test_every_setting_has_a_flag():
    schema = set(read_schema(find_notebook("02_train")))
    kinds = (TrainingSettings, StagerSettings, PreparationSettings, Augmentation)
    wanted = {part.name for kind in kinds for part in fields(kind)} - {"stager", "augmentation"}
    assert wanted - {"signs", "maps", "residual"} <= schema, "those are of stagers that train-simulated makes"


def test_none_is_a_choice_where_it_is_one():
    schema = read_schema(find_notebook("02_train"))
    given = convert(schema, {"pretrained": "none", "attention": "none", "epochs": "none"}, "02_train")
    assert given == {"pretrained": "none", "attention": "none", "epochs": None}
    settings, looks = given_settings("demo", {**given, "pixels": 32, "view": "slice", "rotation": 3.0, "noise": None})
    assert settings.stager.pretrained is False and settings.stager.attention == "none"
    assert looks.size == (32, 32) and settings.augmentation == replace(Augmentation(), rotation=3.0)
    _, looks = given_settings("demo", {"field_of_view": "200x240", "percentiles": "2,98"})
    assert looks.field_of_view == (200, 240) and looks.percentiles == (2, 98) and looks.spacing == 2.0


def test_whole_slices_are_stretched_to_the_pixels(tmp_path):
    voxels = np.zeros((30, 20, 5), np.float32)  # right to left, back to front, feet to head
    voxels[3:27, 3:17] = 100
    voxels[15:27, 3:17] = 200
    affine = np.diag([-4.0, 5.0, 8.0, 1.0])  # first axis to the left in RAS+
    affine[0, 0] = 4.0
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "scan.nii.gz")
    made = standardise(tmp_path / "scan.nii.gz", None, PreparationSettings(view="slice", pixels=(40, 45)))
    assert made.image.shape == (5, 40, 45)
    assert made.grid.spacing == pytest.approx((8.0, 20 * 5 / 40, 30 * 4 / 45))
    bright = made.image[2].max(axis=0) > 0.75
    assert bright.sum() == pytest.approx(12 * 45 / 30, abs=2), "12 of 30 voxels along the columns"


def test_keys_of_older_settings_are_what_they_were():
    assert "pixels" not in PreparationSettings().stored() and PreparationSettings(**PreparationSettings().stored())
    assert PreparationSettings(**SMALL.stored()) == SMALL and SMALL.size == (20, 24)
    for wrong in (
        {"view": "slice", "field_of_view": (9, 9)},
        {"pixels": (20, 20)},
        {"view": "slice", "pixels": (4, 4)},
    ):
        with pytest.raises(ValueError, match=r"pixels|field_of_view"):
            PreparationSettings(**wrong)


def test_a_training_of_slices_sees_each_once_and_scores_slices(tmp_path):
    cohort = toy_cohort(tmp_path / "scans", {"train": 6, "valid": 3, "test": 3}, sequences=("T1W",), slices=(4,), settings=SMALL)  # fmt: skip  # noqa: E501
    run = train(cohort, tmp_path / "run", QUICK, progress=False)
    assert len(read_history(run)) == 2
    slices = read_slice_predictions(run)
    assert slices is not None and (slices["split"] == "valid").sum() == 12
    assert [len(part) for part in batches_of_epoch(24, 5, 0, 0)] == [5, 5, 5, 5, 4]
    assert sorted(one for part in batches_of_epoch(24, 5, 0, 1) for one in part) == list(range(24))
    trained = load_stager(run)
    answers, again = predict_own_cohort(trained, cohort)
    pd.testing.assert_frame_equal(answers, predict(trained, cohort))
    pd.testing.assert_frame_equal(again, predict_slices(trained, cohort.bags()))
    few, one_each = predict_own_cohort(trained, cohort, slices=1)
    assert len(few) == 12 and list(one_each["subject"]) == list(few["subject"])
    cut = train(cohort, tmp_path / "cut", replace(QUICK, steps=1, ema=0.9), progress=False)
    assert reproduction.is_rehearsed(cut) and not reproduction.is_rehearsed(run)


def test_epochs_as_good_as_the_best_are_not_counted():
    settings = replace(QUICK, patience=2)
    history = [{"valid_accuracy": value, "valid_loss": 1.0} for value in (0.5, 0.5, 0.4, 0.5)]
    assert not has_stopped(history, settings)
    assert has_stopped([*history, {"valid_accuracy": 0.3, "valid_loss": 1.0}], settings)
    assert has_stopped(history, replace(settings, patience_counts="no_better"))


def test_biases_and_normalisations_do_not_decay():
    stager = Stager(QUICK.stager)
    matrices, others = decaying(stager, QUICK)
    assert matrices["weight_decay"] == 1e-5 and others["weight_decay"] == 0
    assert all(one.ndim > 1 for one in matrices["params"]) and all(one.ndim <= 1 for one in others["params"])
    assert len(matrices["params"]) + len(others["params"]) == len(list(stager.parameters()))
    assert len(decaying(stager, replace(QUICK, decay="all"))) == 1


@pytest.mark.parametrize(("name", "million"), [("vgg19", 139.6), ("resnet18", 11.18), ("mambavision_t", 31.2)])
def test_networks_are_whole(name, million):
    with torch.device("meta"):
        stager = Stager(TrainingSettings.preset("reference", backbone=name, pretrained=False).stager, fetch=False)
    assert sum(one.numel() for one in stager.parameters()) == pytest.approx(million * 1e6, rel=0.01)
    assert not any("sequence_embedding" in key for key in stager.state_dict())


def test_a_network_of_a_fixed_size_is_told():
    settings = StagerSettings(backbone="vit_tiny_patch16_224", pretrained=False, pooling="slice", classifier=True)
    encoder = Stager(settings).encoders["shared"]
    with pytest.raises(InputError, match=r"vit_tiny_patch16_224.*--pixels 224"):
        require_size(encoder, settings.backbone, (112, 128))
    require_size(encoder, settings.backbone, (224, 224))
    with pytest.raises(InputError, match="mambavision_t is built in"):
        build_backbone("vim_small", FirstWeights())


def test_first_weights_of_a_file_are_all_used_or_refused(tmp_path):
    import timm

    torch.manual_seed(1)
    weights = {name: one.contiguous() for name, one in timm.create_model("test_resnet").state_dict().items()}
    file = tmp_path / "test_resnet.safetensors"
    save_file(weights, file)
    made, _, told = build_backbone("test_resnet", FirstWeights(file=file))
    assert told == "pretrained: file test_resnet.safetensors"
    name = "layer1.0.conv1.weight"
    torch.testing.assert_close(dict(made.model.named_parameters())[name], weights[name])
    table = key_table(timm.create_model("test_resnet", in_chans=1, num_classes=0), read_weights(file))
    assert set(table.loc[~table["used"] & ~table["key"].str.endswith("tracked"), "key"]) == {"fc.weight", "fc.bias"}
    assert (table["why"] == "three channels summed").sum() == 1
    shown = weights_used("test_resnet", file).set_index("why")
    assert shown.loc["three channels summed", "tensors"] == 1 and set(shown["used"]) == {"yes", "no"}
    assert shown["tensors"].sum() == len(table) and "fc.weight" in shown.loc[shown["used"] == "no", "keys"].sum()
    whole = Stager(StagerSettings(backbone="test_resnet", pooling="slice", classifier=True), weights=file)
    torch.testing.assert_close(whole.state_dict()[f"encoders.shared.backbone.model.{name}"], weights[name])
    del weights[name]
    save_file(weights, file)
    with pytest.raises(InputError, match=r"layer1\.0\.conv1\.weight"):
        build_backbone("test_resnet", FirstWeights(file=file))
    torch.save(weights, tmp_path / "pickled.safetensors")
    with pytest.raises(InputError, match="weights_only=True"):
        build_backbone("test_resnet", FirstWeights(file=tmp_path / "pickled.safetensors"))


def test_patients_of_the_paper(tmp_path):
    def scan(patient: str, sequence: str, split: str, stage: str | None = "mild") -> Scan:
        return Scan(patient, sequence, Path("x.nii"), stage=stage, split=split)

    scans = [scan(str(n), s, ("train", "valid", "test")[n]) for n in range(3) for s in ("T1W", "T2W")]
    scans += [scan("7", "T1W", "train"), scan("7", "T2W", "test"), scan("8", "T2W", "test"), scan("9", "T1W", "test")]
    chosen = splits.paper(Cohort(tuple(scans), "toy", simulated=True))
    assert chosen.patients["split"].to_dict() == {
        "imported/0": "train", "imported/1": "valid", "imported/2": "test", "imported/7": "test"
    } or set(chosen.patients["split"]) == {"train", "valid", "test"}  # fmt: skip
    assert len(chosen.patients) == 4 and len(splits.limited(chosen, 1).patients) == 3
    with pytest.raises(InputError, match="--split random"):
        splits.paper(Cohort(tuple(scans[:2]), "toy", simulated=True))


def test_rows_that_deviate_alike_share_a_line():
    rows = rows_of(["VGG-19", "ResNet-18"], ["T1W", "T2W"])
    assert reproduction._which(rows, rows) == "all" and reproduction._which(rows[:1], rows[:1]) == "VGG-19 T1W"
    assert reproduction._which([rows[0], rows[1], rows[2]], rows) == "VGG-19 T1W and T2W, ResNet-18 T1W"


@pytest.mark.slow
def test_a_rehearsal_builds_kills_and_resumes(tmp_path):
    """One small row through the command itself, and the page's tables from it."""
    cirrnb.simulate_cohort(tmp_path / "cohort", 24, scale="tiny", seed=3, healthy=0, workers=1, progress=False)
    people = splits.paper(cirrnb.read_cohort(tmp_path / "cohort"))
    options = {"pixels": "32", "chunk": "8"}
    wanted = Reproduction(
        tmp_path / "cohort", tmp_path / "prepared", tmp_path / "runs", tmp_path / "reports", None, options
    )
    rows = [Row("small", "test_resnet", "T2W"), Row("none", "nothing_of_this_name", "T2W")]
    told: list[str] = []
    failures = reproduction.train_rows(wanted, rows, rehearse=True, tell=told.append)
    assert set(failures) == {"nothing_of_this_name-T2W"} and "nothing_of_this_name" in failures[rows[1].name]
    table = reproduction.table(wanted, rows, people, failures, 100).set_index("network")
    assert table.loc["small", "status"] == "rehearsed, not trained" and "slices right" not in table
    assert table.loc["none", "status"].startswith("failed")
    cost = reproduction.parameters_of(wanted, rows)
    assert cost["rehearsal"].tolist() == ["killed after step 1 of 2, resumed"]
    run = wanted.run(rows[0])
    scored = read_slice_predictions(run)
    assert scored is not None and scored["subject"].is_unique, "a slice of each patient"
    assert set(scored["split"]) == set(SPLITS) and set(scored["subject"]) == set(read_predictions(run)["subject"])
    deviations = reproduction.deviations(wanted, rows, people)
    assert set(deviations["rows"]) == {"small T2W"} and "first weights" in set(deviations["what"])
    first, lines = reproduction.first_lines(wanted, rows, people)
    assert first == rows[0] and {"images", "first weights"} <= set(lines.loc[lines["the same"] == NO, "what"])
    assert not reproduction.train_rows(wanted, rows[:1], rehearse=True, tell=told.append)
    assert told[-1].endswith("already rehearsed")
