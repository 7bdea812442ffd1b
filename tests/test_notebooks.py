"""The notebooks as they are kept, and what comes out of them: the demo from an empty folder, opened offline."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from notebook_shell import shown
from offline_browser import opened
from prediction_tables import drawn
from prediction_tables import table as prediction_table
from test_run_page import OUTSIDE

import cirrnb
from cirrnb.model.calibration import fit_predictions
from cirrnb.run.execution import packaged_notebooks, run_notebook
from cirrnb.run.parameters import read_cells, read_schema
from cirrnb.run.publishing import run_and_publish
from cirrnb.view.page import SIMULATED

NOTEBOOKS = packaged_notebooks()
NAMES = ("01_cohort", "02_train", "03_evaluate")
PAGES = ("index", *NAMES)


def cells(name: str, kind: str = "code") -> list[dict[str, Any]]:
    return [cell for cell in read_cells(NOTEBOOKS[name]) if cell["cell_type"] == kind]


def test_the_notebooks_are_there() -> None:
    assert set(NAMES) <= set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_kept_without_outputs(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    nbformat.validate(notebook)
    for cell in cells(name):
        assert cell["outputs"] == [] and cell["execution_count"] is None
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags", "doing"}  # what the explorer's page says while a cell runs
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"


def test_nbstripout_has_nothing_to_strip() -> None:
    program = Path(sys.executable).with_name("nbstripout")
    done = subprocess.run([program, "--keep-id", "--verify", *NOTEBOOKS.values()], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_have_ids_that_say_something(name: str) -> None:
    """Readable and given once, so that a change to one cell is a change to one cell."""
    ids = [cell["id"] for cell in read_cells(NOTEBOOKS[name])]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]+", one) for one in ids)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_parameter_has_a_type_and_says_what_it_is(name: str) -> None:
    for parameter in read_schema(NOTEBOOKS[name]).values():
        assert len(parameter.help) > 10, parameter.name
        assert parameter.name not in ("out", "timeout"), "taken by the options of every notebook command"
    [tagged] = [cell for cell in cells(name) if "parameters" in cell["metadata"].get("tags", [])]
    assert all(isinstance(statement, ast.AnnAssign) for statement in ast.parse("".join(tagged["source"])).body)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_tells_a_story(name: str) -> None:
    assert "".join(cells(name, "markdown")[0]["source"]).startswith("# ")
    for cell in cells(name):
        if "parameters" not in cell["metadata"].get("tags", []):
            assert len("".join(cell["source"]).splitlines()) <= 20, "logic belongs in the package"
    prose = " ".join("".join(cell["source"]) for cell in cells(name, "markdown"))
    prose = prose.replace("no fibrosis grade (F0 to F4)", "")  # what the stages are not may be said
    assert not re.search(r"METAVIR|\bF[0-4]\b|compensated", prose), "the stages are none of these"
    assert any("Notice(" in "".join(cell["source"]) for cell in cells(name))


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the smallest demo leaves, as a user gets it from the command line."""
    folder = tmp_path_factory.mktemp("demo")
    done = demo_command(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line[:6] for line in done.stdout.splitlines()[:4]] == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    assert "unknown parameter" not in done.stderr and "KeyboardInterrupt" not in done.stderr
    return folder


def demo_command(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cirrnb.cli import main; main()"]
    settings = ["--patients", "12", "--epochs", "1", "--folder", str(folder)]
    return subprocess.run([*command, "demo", *settings], capture_output=True, text=True, cwd=folder, timeout=900)


def test_the_demo_leaves_what_the_readme_promises(demo_folder: Path) -> None:
    run = demo_folder / "runs" / "demo"
    for name in (
        "config.json",
        "model.safetensors",
        "history.csv",
        "predictions.csv",
        "metrics.json",
        "provenance.json",
    ):
        assert (run / name).stat().st_size > 0
    assert (demo_folder / "cohorts" / "demo" / "SIMULATED.txt").exists()
    assert {path.stem for path in (demo_folder / "reports" / "demo").glob("*.html")} == set(PAGES)
    assert len(pd.read_csv(run / "predictions.csv")) == 12
    assert json.loads((run / "metrics.json").read_text())["simulated"] is True


@pytest.mark.parametrize("name", PAGES)
def test_pages_of_the_demo_name_no_machine_and_no_address(demo_folder: Path, name: str) -> None:
    text = (demo_folder / "reports" / "demo" / f"{name}.html").read_text()
    assert not OUTSIDE.search(text)
    assert SIMULATED in text
    # Every figure says it too, wherever it ends up without its page.
    assert text.count('"text":"simulated cohort"') == text.count('<figure class="plot"') > 0
    for folder in (demo_folder, Path.home(), Path(sys.prefix)):
        assert f"{folder}/" not in text


def test_a_second_demo_has_nothing_to_do(demo_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo_folder.rglob("*.ipynb")}
    done = demo_command(demo_folder)
    assert done.returncode == 0 and done.stdout.count("already done") == 4
    assert {path: path.stat().st_mtime_ns for path in demo_folder.rglob("*.ipynb")} == before


@pytest.mark.browser
def test_the_report_opens_offline_and_shows_what_matters(demo_folder: Path) -> None:
    with opened(demo_folder / "reports" / "demo" / "index.html") as result:
        page = result.page
        assert result.complaints == []
        assert all(url.startswith("file:") for url in result.requests) and len(result.requests) == 2
        text = page.locator("body").inner_text()
        for words in (
            "Simulated cohort",
            "Learning curve",
            "predicted stage",
            "chance",
            "majority stage",
            "no diagnosis",
        ):
            assert words in text, words
        for metric in ("quadratic weighted kappa", "accuracy", "balanced accuracy"):
            assert metric in text
        assert re.search(r"accuracy\b", text) and re.search(r"\d\.\d\d \(\d\.\d\d to \d\.\d\d\)", text)
        assert page.locator("figure.plot svg.main-svg .imagelayer image, figure.plot image").count() >= 4
        letters = page.locator("figure.plot .annotation-text").all()
        sides = {side: [one.bounding_box()["x"] for one in letters if one.text_content() == side] for side in "RL"}
        # The patient's right is on the viewer's left, on every picture.
        assert len(sides["R"]) == len(sides["L"]) >= 4
        assert all(right < left for right, left in zip(sides["R"], sides["L"], strict=True))
        drawn = page.locator("figure.plot svg.main-svg").all()
        assert all(svg.bounding_box()["height"] > 100 for svg in drawn)
        for name in NAMES:
            assert page.locator(f"main a[href='{name}.html']").count() == 1


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1100])
@pytest.mark.parametrize("name", NAMES)
def test_every_page_draws_all_its_figures(demo_folder: Path, name: str, width: int) -> None:
    with opened(demo_folder / "reports" / "demo" / f"{name}.html", width) as result:
        assert result.complaints == []
        assert all(url.startswith("file:") for url in result.requests)
        assert result.page.locator("figure.plot svg.main-svg").count() > 0
        # Wide tables and figures scroll inside themselves, never the page.
        assert result.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_each_notebook_runs_with_its_defaults(tmp_path: Path) -> None:
    """In an empty folder, in any order; what one has made the next takes over."""
    for name in reversed(NAMES):
        assert run_notebook(name, tmp_path / f"{name}.ipynb", cwd=tmp_path).exists()


def test_explanations_are_told_and_tested(demo_folder: Path) -> None:
    """Of the demo's stager and three patients of few slices."""
    cirrnb.simulate_cohort(demo_folder / "cohorts/tiny", 3, 11, "tiny", healthy=0, workers=1, progress=False)
    parameters = {"model": "runs/demo", "cohort": "cohorts/tiny", "methods": ["grad_cam"], "steps": 2, "compared": 1}
    told = shown("05_faithfulness", parameters, demo_folder)
    for words in (
        "Grad-CAM",
        "deletion",
        "insertion",
        "infidelity",
        "backbone",
        "any",
        SIMULATED,
        "scanner B instead of A",
    ):
        assert words in told, words
    assert list((demo_folder / "explanations").glob("*.safetensors"))


@pytest.mark.browser
def test_a_case_is_opened_and_left_in_a_page_that_scrolls_offline(demo_folder: Path) -> None:
    parameters = {"model": "runs/demo", "cohort": "cohorts/demo", "method": "grad_cam", "answer": True}
    page = run_and_publish("06_explore", demo_folder / "explored", parameters, cwd=demo_folder)
    assert page.stat().st_size < 2_000_000
    executed = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    states = executed.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    kept = [{key: value for key, value in one["state"].items() if key not in ("_esm", "_css")} for one in states]
    assert len(json.dumps(kept)) < 300_000, "pictures are no part of what a notebook keeps of its widgets"
    with opened(page) as browser:
        browser.page.wait_for_selector("[data-ready=yes]")
        browser.page.wait_for_function("() => document.querySelector('.cn-viewer').viewer.state.overlay")
        browser.page.locator(".cn-pane").first.focus()
        before = browser.page.locator(".cn-pane canvas").first.get_attribute("aria-label")
        browser.page.keyboard.press("ArrowDown")
        browser.page.wait_for_function(
            "(before) => document.querySelector('.cn-pane canvas').ariaLabel !== before", arg=before
        )
        assert browser.complaints == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.requests)


def hand_made_run(folder: Path, *, calibrated: bool, simulated: bool) -> Path:
    """What 03_evaluate needs of a run folder, without a training."""
    folder.mkdir(parents=True)
    trained = prediction_table(*drawn(60, seed=1), "train", 500)
    told = pd.concat([prediction_table(*drawn(80)), trained]).assign(simulated=simulated)
    if calibrated:
        calibration = fit_predictions(prediction_table(*drawn(100, seed=2)))
        calibration.save(folder)
        told = calibration.calibrate(told)
    told.to_csv(folder / "predictions.csv", index=False)
    return folder


def text_of(executed: Path) -> str:
    """All that the cells of a notebook put out."""
    notebook = nbformat.read(executed, as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return " ".join(str(output.get("text", "")) + str(output.get("data", "")) for output in outputs)


def test_the_evaluation_tells_of_probabilities_sets_and_slices(tmp_path: Path) -> None:
    run = hand_made_run(tmp_path / "run", calibrated=True, simulated=True)
    slices = pd.DataFrame({"subject": [f"a/{i // 4}" for i in range(40)], "split": "test"})
    stages = ["mild", "severe"] * 20
    slices.assign(stage=[stages[i // 4] for i in range(40)], predicted="mild").to_csv(
        run / "slice_predictions.csv", index=False
    )
    parameters = {"model": str(run), "resamples": 200}
    told = shown("03_evaluate", parameters, tmp_path)
    for words in (
        "AUC moderate",
        "Brier score",
        "ordinal conformal prediction, 100 patients",
        "coverage aimed at, 90 %",
    ):
        assert words in told, words
    for words in (
        "all three",
        "ceiling, where known",
        "this stager, as the paper counts",
        "72.8 %",
        "perfectly calibrated",
    ):
        assert words in told, words
    saved = json.loads((run / "metrics.json").read_text())
    assert {row["stage"] for row in saved["coverage"]} == {"all", "mild", "moderate", "severe"}


def test_a_run_without_calibration_is_evaluated_and_says_so(tmp_path: Path) -> None:
    run = hand_made_run(tmp_path / "run", calibrated=False, simulated=False)
    parameters = {"model": str(run), "resamples": 200}
    told = shown("03_evaluate", parameters, tmp_path)
    assert "This run has no calibration.json" in told and "it has no slice predictions" in told
    assert "How sure it is, and how often right" in told and "Sets of stages:" not in told
    assert "ceiling, where known" not in told
