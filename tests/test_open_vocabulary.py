"""Other stages, a third sequence and plug-ins work by parameter alone, from the table to the page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from report_runs import in_this_process, tiny_cohort
from test_cli import PROGRAM

import cirrnb
from cirrnb.data import plugins, splits
from cirrnb.data.auditing.audit import audit
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.plugins import Registry
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.sequences import sequence_names
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale, stage_scale
from cirrnb.evaluation.comparison import compare
from cirrnb.explanation.methods import METHODS, methods
from cirrnb.explanation.score import targets
from cirrnb.model.backbones import BACKBONES
from cirrnb.model.calibration import fit_predictions
from cirrnb.model.cross_validation import mean_of
from cirrnb.model.heads_and_losses import HEADS, LOSSES
from cirrnb.model.prediction import predict_patient
from cirrnb.model.run_folder import read_predictions
from cirrnb.model.settings import StagerSettings, TrainingSettings
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import load_model, stages_of_run
from cirrnb.reports.compute import ReportModel, patient_report
from cirrnb.reports.formats import section
from cirrnb.reports.report import make_report
from cirrnb.reports.request import ReportRequest
from cirrnb.view import calibration as uncertainty
from cirrnb.view import cohort as cohort_figures
from cirrnb.view import evaluation as figures
from cirrnb.view.attribution import share_profile
from cirrnb.view.sentences import answer_html, target_words

FIBROSIS = ("F0", "F1", "F2", "F3", "F4")
CLASSES = ("compensated", "decompensated")
ARTERIAL = "arterial phase"
PREPARATION = PreparationSettings(spacing=6.0)
GUIDE = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten simulated patients as a table: F0 to F4 in turn, two classes, and a third scan of six of them."""
    home = tmp_path_factory.mktemp("cohort")
    people = cirrnb.read_cohort(tiny_cohort(home, 10))
    rows = []
    for number, subject in enumerate(people.patients.index):
        scans = {scan.sequence: scan for scan in people.scans if scan.subject == subject}
        own = {"patient": subject.partition("/")[2], "stage": FIBROSIS[number % 5], "class": CLASSES[number % 2]}
        for name, scan in scans.items():
            rows.append({**own, "sequence": name, "image": scan.image, "mask": scan.mask})
        first = next(iter(scans.values()))
        if number < 6:
            image = nib.load(first.image)
            bright = np.asarray(image.dataobj).astype(np.int16) + 7
            nib.save(nib.Nifti1Image(bright, image.affine), home / f"{own['patient']}.nii.gz")
            rows.append({**own, "sequence": ARTERIAL, "image": home / f"{own['patient']}.nii.gz", "mask": first.mask})
    pd.DataFrame(rows).to_csv(home / "fibrosis.csv", index=False)
    pd.DataFrame(rows).drop(columns="stage").rename(columns={"class": "stage"}).to_csv(home / "two.csv", index=False)
    return home / "fibrosis.csv"


@dataclass(frozen=True)
class Trained:
    """A cohort of another scale and a model of few steps trained on it."""

    cohort: Cohort
    ready: PreparedCohort
    run: Path


def trained(
    table: Path, home: Path, stages: str, sequences: tuple[str, ...] | None = None, **changes: object
) -> Trained:
    cohort = splits.random(cirrnb.read_cohort(table, stages=stages, sequences=sequences), (0.6, 0.2, 0.2), seed=1)
    ready = cirrnb.prepare(cohort, table.parent / "prepared", PREPARATION, workers=1, progress=False)
    wanted = {"epochs": 1, "slices": 2, "width": 8, "sequences": cohort.sequences, **changes}
    settings = TrainingSettings.preset("demo", **wanted)
    return Trained(cohort, ready, cirrnb.train(ready, home / "run", settings, progress=False))


@pytest.fixture(scope="module", params=[("fibrosis.csv", FIBROSIS, "cumulative"), ("two.csv", CLASSES, "corn")])
def staged(request: pytest.FixtureRequest, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    file, names, head = request.param
    home = tmp_path_factory.mktemp("run")
    return trained(table.with_name(file), home, ", ".join(names), ("T1W", "T2W"), head=head)


def test_cohort_and_model_have_the_scale(staged: Trained) -> None:
    cohort, model = staged.cohort, load_model(staged.run)
    assert set(cohort.table["stage"]) == set(cohort.stages) and model.stages == cohort.stages
    assert stages_of_run(staged.run) == cohort.stages
    found = audit(cohort, workers=1, progress=False)
    assert "counts" not in found.tables and set(cohort.stages) <= set(found.tables["stages"])
    counted = cohort_figures.split_counts(cohort.patients, cohort.stages)
    assert counted.loc["all", list(cohort.stages)].sum() == 10


def test_probabilities_sets_and_chance_follow_the_scale(staged: Trained) -> None:
    stages = staged.cohort.stages
    table = read_predictions(staged.run)
    assert np.allclose(table[list(stages)].sum(axis=1), 1) and set(table["predicted"]) <= set(stages)
    asked = cirrnb.predict(staged.run, staged.ready)
    assert all(set(one.split("|")) <= set(stages) for one in asked["set"])
    result = cirrnb.evaluate(asked, split=None, resamples=50, stages=stages)
    by_name = result.table.set_index("metric")
    assert by_name.loc["accuracy", "chance"] == pytest.approx(1 / len(stages))
    assert by_name.loc["accuracy", "majority"] == pytest.approx(2 / 10 if len(stages) == 5 else 0.5)
    assert by_name["ceiling"].isna().all() and f"AUC {stages[-1]}" in by_name.index
    assert result.confusion.shape == (len(stages), len(stages)) and result.confusion.to_numpy().sum() == 10
    assert list(result.coverage["stage"]) == ["all", *stages]
    assert compare(asked, asked, split=None, resamples=50, stages=stages)["difference"].eq(0).all()


def test_figures_and_words_follow_the_scale(staged: Trained) -> None:
    stages, model = staged.cohort.stages, load_model(staged.run)
    asked = cirrnb.predict(model, staged.ready)
    result = cirrnb.evaluate(asked, split=None, resamples=50, stages=stages)
    heat = figures.confusion_matrix(result.confusion, simulated=True, stages=stages).data[0]
    assert list(heat.x) == list(stages)
    assert len(uncertainty.set_coverage(result.coverage, simulated=True).data) == len(stages) + 1
    assert f"all {('two', 'five')[len(stages) == 5]}" in uncertainty.set_table(result.coverage)
    boxes = cohort_figures.age_by_stage(staged.cohort.patients, simulated=True, scale=stages).data
    assert [box.line.color for box in boxes] == list(stages.colours)
    bag = staged.ready.bags()[0]
    said = predict_patient(model, bag)
    page = answer_html(said, bag, model, simulated=True)
    assert all(f"<span>{stage}</span>" in page and stages.colour[stage] in page for stage in stages)
    report = patient_report(ReportModel.load(str(staged.run)), bag, simulated=True)
    assert report.stages == tuple(stages) and set(report.training.others) == set(stages)
    drawing = section(report, "training").body
    assert all(stages.colour[stage] in drawing for stage in stages)


def test_a_report_follows_the_scale(staged: Trained, table: Path, tmp_path: Path) -> None:
    stages, subject = staged.cohort.stages, staged.ready.bags()[0].subject
    request = ReportRequest(
        table.with_name(f"{subject.partition('/')[0]}.csv"),
        str(staged.run),
        tmp_path / "report",
        patients=(subject,),
        sequences="T1W,T2W",  # the third of some patients is not the model's
        prepared=table.parent / "prepared",
        explanations=tmp_path / "maps",
    )
    with in_this_process(network=True):
        assert make_report(request).exit_code == 0
    [row] = pd.read_csv(request.out / "summary.csv").to_dict("records")
    assert sum(row[stage] for stage in stages) == pytest.approx(1) and row["predicted"] in stages
    assert row["stage"] in stages and "mild" not in row
    index = (request.out / "index.html").read_text(encoding="utf-8")
    assert all(f'<option value="{stage}">{stage}</option>' in index for stage in stages) and "moderate" not in index
    page = (request.out / row["page"]).read_text(encoding="utf-8")
    assert all(stage in page for stage in stages) and "moderate" not in page
    told = json.loads((request.out / row["page"]).with_suffix(".json").read_text(encoding="utf-8"))
    assert list(told["prediction"]["probabilities"]) == list(stages)


def test_explanation_and_explorer_follow_the_scale(staged: Trained, tmp_path: Path) -> None:
    stages, model = staged.cohort.stages, load_model(staged.run)
    stager = model.members[0].stager
    assert targets(stager) == ("severity", *stages.thresholds)
    bag = staged.ready.bags()[0]
    told = cirrnb.explain(model, bag, "grad_cam", stages.thresholds[-1], permutations=4)
    rest = ", ".join(stages.names[:-2]) + " or " * (len(stages) > 2) + stages[-2]
    assert target_words(told.target, stages) == f"{stages[-1]} rather than {rest}"
    tested = cirrnb.faithfulness(model, bag, told, steps=2, samples=0)
    assert tested.set_index("measure").loc["deletion", "value"] is not None
    explorer = cirrnb.SliceExplorer(staged.ready, model, store=tmp_path, method="grad_cam", answer_first=True)
    assert explorer.wait(120)
    assert [value for _, value in explorer.target.options] == ["severity", *stages.thresholds]
    assert explorer.prediction.predicted in explorer.answer.value
    assert f"Patient {explorer.case.value}" in explorer.snapshot().html


@pytest.mark.parametrize("head", ["cumulative", "corn", "cross_entropy"])
@pytest.mark.parametrize("count", [2, 5])
def test_every_head_gives_a_probability_to_each_stage(head: str, count: int) -> None:
    torch.manual_seed(0)
    stages = StageScale(tuple("ABCDE"[:count]))
    stager = Stager(StagerSettings(pretrained=False, width=8, head=head), stages=stages)
    batch = cirrnb.model.batch.collate(
        [
            cirrnb.data.dataset.DrawnBag(
                torch.rand(2, 1, 32, 32), torch.tensor([0, 1]), torch.zeros(2), torch.zeros(4), 0
            )
        ]
    )
    chances = stager.eval().stage(batch).log_probabilities.exp()
    assert chances.shape == (1, count) and float(chances.detach().sum()) == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The examples of docs/extending.md as one file; what it registers is taken away again."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path_factory.mktemp("plugin") / "own.py"
    path.write_text("from __future__ import annotations\n\n" + "\n\n".join(blocks), encoding="utf-8")
    methods()
    registries: tuple[Registry, ...] = (HEADS, LOSSES, BACKBONES, METHODS)
    before = [(dict(one._parts), dict(one._modules)) for one in registries]
    loaded = dict(plugins._loaded)
    yield path
    for registry, (parts, modules) in zip(registries, before, strict=True):
        registry._parts, registry._modules = parts, modules
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


@pytest.fixture(scope="module")
def three(table: Path, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model of F0 to F4 and three sequences with the head, loss and backbone of a plug-in."""
    plugins.load_plugins(plugin)
    home = tmp_path_factory.mktemp("three")
    parts = {"head": "adjacent", "loss": "ranked_probability", "backbone": "two_scales"}
    return trained(table, home, ",".join(FIBROSIS), ("T1W", "T2W", ARTERIAL), **parts)


def test_a_third_sequence_goes_through_the_network(three: Trained) -> None:
    model = load_model(three.run)
    assert three.cohort.sequences == model.sequences == ("T1W", "T2W", ARTERIAL)
    assert three.cohort.patients[ARTERIAL].sum() == 6
    whole = next(bag for bag in three.ready.bags() if not bag.missing)
    said = predict_patient(model, whole)
    assert set(said.sequence_weights) == set(model.sequences)
    assert sum(said.sequence_weights.values()) == pytest.approx(1, abs=1e-5)
    without = predict_patient(model, whole.only(["T1W", "T2W"]))
    assert said.probabilities != without.probabilities and f"{ARTERIAL} missing" in without.notes
    assert set(whole.shifts) == set(model.sequences) and whole.shifts["T1W"] == 0
    told = cirrnb.explain(model, whole, "grad_cam", permutations=4)
    assert set(told.maps) == set(told.shapley.sequences) == set(model.sequences)
    assert sum(told.shapley.sequences.values()) == pytest.approx(told.score - told.shapley.nothing, abs=1e-4)
    assert {
        trace.name.partition(":")[0] for trace in share_profile(whole, told).data if trace.showlegend is not False
    } == {*model.sequences}
    assert [path.name for path in told.to_nifti(three.run.parent / "maps")]
    seen = cohort_figures.summary(three.cohort.patients, three.cohort.stages)
    assert seen.loc["all", ARTERIAL] == 6


def test_the_tensors_of_a_model_have_its_own_sequences(three: Trained) -> None:
    weights = load_model(three.run).members[0].stager.state_dict()
    assert weights["sequence_embedding.weight"].shape[0] == 3
    alone = Stager(StagerSettings(pretrained=False, width=8, sequences=("T2W",)))
    assert alone.state_dict()["sequence_embedding.weight"].shape[0] == 1


def test_a_plugin_registers_parts_that_the_run_remembers(three: Trained, plugin: Path) -> None:
    stager = load_model(three.run).members[0].stager
    assert type(stager.head).__name__ == "AdjacentHead" and type(stager.encoders["shared"].backbone.model).__name__ == (
        "TwoScales"
    )
    provenance = json.loads((three.run / "provenance.json").read_text())
    assert set(provenance["plugins"]) == {"own.py"} and provenance["training"]["loss"] == "ranked_probability"
    told = cirrnb.explain(load_model(three.run), three.ready.bags()[0], "gradient_times_input", permutations=4)
    assert told.label == "Gradient x input" and told.signed


def test_the_examples_do_what_they_say(plugin: Path) -> None:
    plugins.load_plugins(plugin)
    scores = torch.tensor([[1.0, 2.0]])
    chances = HEADS["adjacent"](4, 3).log_probabilities(scores).exp()[0]
    assert (chances[1] / chances[0]).log().item() == pytest.approx(1) and (
        (chances[2] / chances[1]).log().item() == pytest.approx(2)
    )
    # Cumulative 0.5, 0.75, 1 against 0, 1, 1.
    loss = LOSSES["ranked_probability"](torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([1]))
    assert loss.tolist() == pytest.approx([(0.25 + 0.0625) / 3])


def test_a_report_of_three_sequences_and_five_stages_by_a_plugin(three: Trained, table: Path, plugin: Path) -> None:
    out = table.parent / "report"
    some = [bag.subject for bag in three.ready.bags() if not bag.missing][:1]
    some += [bag.subject for bag in three.ready.bags() if bag.missing][:1]
    command = ["report", str(table), "--model", str(three.run), "--out", str(out), "--prepared"]
    command += [str(table.parent / "prepared"), "--plugin", str(plugin), "--method", "gradient_times_input"]
    command += ["--jobs", "1"]
    command += [part for name in some for part in ("--patients", name)]
    done = subprocess.run([*PROGRAM, *command], capture_output=True, text=True, cwd=table.parent, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = pd.read_csv(out / "summary.csv")
    assert set(FIBROSIS) <= set(summary) and f"{ARTERIAL}_share" in summary and "mild" not in summary
    assert np.allclose(summary[list(FIBROSIS)].sum(axis=1), 1) and len(summary) == 2
    index = (out / "index.html").read_text(encoding="utf-8")
    assert '<option value="F4">F4</option>' in index and "moderate" not in index
    page = (out / summary["page"][0]).read_text(encoding="utf-8")
    assert ARTERIAL in page and "Gradient x input" in page and all(stage in page for stage in FIBROSIS)
    whole = (out / "08_cohort_report.html").read_text(encoding="utf-8")
    assert "F4" in whole and "moderate" not in re.sub(r"<script.*?</script>", "", whole, flags=re.DOTALL)


def test_a_model_of_a_plugin_says_what_it_lacks(three: Trained, plugin: Path, tmp_path: Path) -> None:
    script = f"from cirrnb.model.trained_model import load_model; load_model({str(three.run)!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode and "adjacent" in done.stderr and "plug-in" in done.stderr
    copied = tmp_path / "run"
    shutil.copytree(three.run, copied)
    calibration = json.loads((copied / "calibration.json").read_text())
    (copied / "calibration.json").write_text(json.dumps(calibration | {"stages": list(reversed(FIBROSIS))}))
    with pytest.raises(InputError, match="F4, F3"):
        load_model(copied)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no Python file"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("def", "SyntaxError"),
        ("from cirrnb.model.heads_and_losses import HEADS\nHEADS.register('corn')(dict)", "already"),
        ("from cirrnb.model.heads_and_losses import HEADS\nHEADS.register('No name')(dict)", "No name"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_told(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "broken.py"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        plugins.load_plugins(path)
    assert "broken.py" not in plugins.loaded_plugins() and "corn" in HEADS


# ---------------------------------------------------------------- the scale itself


def test_a_scale_from_text_from_names_and_from_a_file(tmp_path: Path) -> None:
    assert stage_scale(None) is stage_scale("mild, moderate, severe") is CIRRHOSIS
    assert stage_scale("F0, F1,F2") == stage_scale(["F0", "F1", "F2"]) == StageScale(("F0", "F1", "F2"))
    given = {"names": ["a", "b"], "colours": ["#000000", "#ffffff"], "words": ["first", "second"]}
    (tmp_path / "own.json").write_text(json.dumps(given))
    scale = stage_scale(str(tmp_path / "own.json"))
    assert scale.colour == {"a": "#000000", "b": "#ffffff"} and scale.description["b"] == "second"
    assert stage_scale(json.loads(json.dumps(scale.stored()))) == scale
    assert len(set(StageScale(tuple("abcdefgh")).colours)) == 8


def test_words_of_a_table_that_mean_a_stage() -> None:
    assert stage_scale("F0, F1").understand("f1") == "F1"
    assert stage_scale("0, 1, 2").understand("2.0") == "2" and CIRRHOSIS.understand("2.0") == "moderate"
    with pytest.raises(ValueError, match="F0, F1"):
        stage_scale("F0, F1").understand("1")


@pytest.mark.parametrize(
    "given",
    [
        "mild",
        "a, a",
        "A, a",
        "predicted, b",
        "a|b, c",
        "a - b, c",
        "<b>, c",
        ", c",
        "none.json",
        {"names": ["a", "b"], "colours": ["red", "blue"]},
        {"names": ["a", "b"], "words": ["one"]},
        {"names": ["a", "b"], "more": 1},
        {"colours": []},
        ["a", 1],
        ",".join(f"s{number}" for number in range(21)),
    ],
)
def test_a_scale_that_cannot_be_one_is_refused(given: object) -> None:
    with pytest.raises(InputError):
        stage_scale(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["", "a,a", "T1W,t1w", "a/b", "a+b", "patient", "x" * 40, ",".join("abcdefghi")])
def test_sequences_that_cannot_be_named_are_refused(given: str) -> None:
    with pytest.raises(InputError):
        sequence_names(given)


def test_a_cohort_has_no_stage_or_sequence_but_its_own() -> None:
    scan = Scan("1", "DWI", Path("1.nii.gz"), stage="F2")
    with pytest.raises(ValueError, match="sequence"):
        Cohort((scan,))
    with pytest.raises(ValueError, match="stage"):
        Cohort((scan,), sequences=("DWI",))
    made = Cohort((scan,), sequences=("DWI", "HBP"), stages=StageScale(FIBROSIS))
    assert made.patients[["DWI", "HBP"]].to_numpy().tolist() == [[True, False]]


def test_official_splits_of_patients_without_the_scan_that_decides() -> None:
    told = [("1", "DWI", "train"), ("1", "T1W", "test"), ("2", "DWI", "test"), ("3", "T1W", "valid")]
    scans = tuple(Scan(who, name, Path(f"{who}{name}.nii.gz"), split=split) for who, name, split in told)
    cohort = Cohort(scans, sequences=("T1W", "T2W", "DWI"))
    chosen = {policy: [scan.split for scan in splits.official(cohort, policy).scans] for policy in ("t1", "t2")}
    assert chosen == {"t1": ["test", "test", "test", "valid"], "t2": [None, None, "test", "valid"]}


def test_other_words_of_a_table_are_told_unless_sequences_are_named(table: Path) -> None:
    with pytest.raises(InputErrors, match="F0, F1, F2, F3, F4"):
        cirrnb.read_cohort(table)
    with pytest.raises(InputErrors, match="T1W, T2W, DWI"):
        cirrnb.read_cohort(table, stages=",".join(FIBROSIS))
    some = cirrnb.read_cohort(table, stages=",".join(FIBROSIS), sequences="T2W")
    assert {scan.sequence for scan in some.scans} == {"T2W"}
    assert any("other sequences" in note and ARTERIAL in note for note in some.notes)


def test_means_and_calibration_of_another_scale() -> None:
    rows = [{"subject": str(n), "stage": CLASSES[n % 2], "predicted": CLASSES[0]} for n in range(20)]
    table = pd.DataFrame(rows).assign(compensated=0.7, decompensated=0.3, split="test")
    assert mean_of([table, table], CLASSES)["compensated"].eq(0.7).all()
    found = fit_predictions(table, 0.5, CLASSES)
    assert found.stages == CLASSES and found.prediction_set([0.9, 0.1]) == ("compensated",)


def test_a_bag_shows_what_its_cohort_has(three: Trained) -> None:
    lacking = next(bag for bag in three.ready.bags() if ARTERIAL in bag.missing)
    assert lacking.sequences == ("T1W", "T2W", ARTERIAL)
    assert replace(lacking, scans=lacking.scans).missing == lacking.missing
    assert Bag({}).missing == ("T1W", "T2W")
