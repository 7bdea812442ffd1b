"""Python as people type it: paths in place of cohorts, arguments in the wrong place, names that the documents use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cirrnb
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.scan import Cohort

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with cohorts/mine and prepared/mine."""
    home = tmp_path_factory.mktemp("typed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        made = cirrnb.simulate_cohort("cohorts/mine", patients=2, seed=3, scale="tiny", healthy=0, workers=1)
        cirrnb.prepare(made, "prepared/mine", workers=1, progress=False)
    return home


@pytest.fixture
def cohort(home: Path, monkeypatch: pytest.MonkeyPatch) -> Cohort:
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    return cirrnb.read_cohort("cohorts/mine")


@pytest.fixture(scope="module")
def model() -> cirrnb.Model:
    return cirrnb.Model.load("shipped")


def test_a_path_is_a_cohort(cohort: Cohort, model: cirrnb.Model) -> None:
    asked = cirrnb.predict(model, cohort)
    for patients in ("cohorts/mine", Path("cohorts/mine"), "~/cohorts/mine"):
        assert cirrnb.predict(model, patients).equals(asked)
    assert model.predict("cohorts/mine").equals(asked)
    bag = cirrnb.prepare("cohorts/mine", settings=model.preparation, progress=False).bags()[0]
    assert list(cirrnb.predict(model, bag)["subject"]) == [bag.subject]
    assert cirrnb.evaluate(model, "cohorts/mine", split=None).n == 2


def test_prepare_takes_a_path_and_keeps_scans_where_predict_finds_them(cohort: Cohort, home: Path) -> None:
    prepared = cirrnb.prepare("cohorts/mine", progress=False)
    assert len(prepared) == len(cohort)
    assert all(scan.folder.is_relative_to(home / "prepared" / "mine") for scan in prepared.scans)


def test_explain_takes_a_path_and_a_patient(cohort: Cohort, model: cirrnb.Model) -> None:
    second = cohort.patients.index[1]
    for subject in (second, second.partition("/")[2]):
        told = cirrnb.explain(model, "cohorts/mine", "grad_cam", subject=subject, permutations=2)
        assert told.subject == second


def test_a_slice_browser_knows_by_the_files_that_a_patient_is_simulated(cohort: Cohort) -> None:
    bag = cirrnb.prepare(cohort, progress=False).bags()[0]
    assert '"simulated":true' in cirrnb.slice_browser(bag).html
    assert '"simulated":false' in cirrnb.slice_browser(bag, simulated=False).html


WRONG = {
    "a patient for a cohort": (lambda c, m: cirrnb.explain(m, "cirrhotic/3"), 'subject="cirrhotic/3"'),
    "a patient for a method": (
        lambda c, m: cirrnb.explain(m, c, c.patients.index[0]),
        "Name the patient as subject",
    ),
    "nobody": (lambda c, m: cirrnb.explain(m, c, subject="nobody"), "Name one of them"),
    "a cohort for a model": (lambda c, m: cirrnb.predict(c, m), "The model comes first"),
    "exchanged": (lambda c, m: cirrnb.predict(c, "shipped"), "The model comes first"),
    "exchanged paths": (lambda c, m: cirrnb.predict("cohorts/mine", "shipped"), "Exchange them"),
    "no path": (lambda c, m: cirrnb.predict(m, "cohorts/none"), "Correct the path"),
    "prepared scans for a cohort": (lambda c, m: cirrnb.predict(m, "prepared/mine"), "were prepared from"),
    "nothing": (lambda c, m: cirrnb.predict(m, None), "cirrnb.read_cohort"),
    "names of patients": (lambda c, m: cirrnb.predict(m, ["cirrhotic/3"]), "cirrnb.read_cohort"),
    "nothing to prepare": (lambda c, m: cirrnb.prepare(None), "cirrnb.read_cohort"),
    "training on a path": (lambda c, m: cirrnb.train("cohorts/mine", "runs/mine"), "cirrnb.prepare"),
    "training on a cohort": (lambda c, m: cirrnb.train(c, "runs/mine"), "cirrnb.prepare"),
    "folds of a cohort": (lambda c, m: cirrnb.cross_validate(c, "runs/mine"), "cirrnb.prepare"),
    "no explanation": (lambda c, m: cirrnb.faithfulness(m, c, None), "cirrnb.explain"),
    "a cohort for a bag": (lambda c, m: cirrnb.slice_browser(c), "prepared.bags()"),
    "a model by its name": (lambda c, m: cirrnb.Model("shipped"), 'cirrnb.Model.load("shipped")'),
    "few patients by a path": (lambda c, m: cirrnb.adapt("shipped", "cohorts/mine", "models/mine"), "patients"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_meant_says_what_to_type(case: str, cohort: Cohort, model: cirrnb.Model) -> None:
    call, remedy = WRONG[case]
    with pytest.raises((InputError, InputErrors)) as error:
        call(cohort, model)
    assert remedy in str(error.value)


def test_ids_that_two_sources_share_are_asked_about(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.nii.gz").touch()
    rows = [
        "patient,sequence,image,source",
        "3,T1,a.nii.gz,cirrhotic",
        "3,T1,b.nii.gz,healthy",
        "4,T1,c.nii.gz,healthy",
    ]
    (tmp_path / "scans.csv").write_text("\n".join(rows))
    read = cirrnb.read_cohort(tmp_path)
    assert (read.subject_named("4"), read.subject_named("healthy/3")) == ("healthy/4", "healthy/3")
    with pytest.raises(InputError, match="cirrhotic/3, healthy/3"):
        read.subject_named("3")


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_dir_shows_public_names_only() -> None:
    code = "import cirrnb; cirrnb.read_cohort, cirrnb.simulate_cohort; print(dir(cirrnb) == sorted(cirrnb.__all__))"
    assert _python(code) == "True"


def test_dotted_names_of_the_documents_hold_after_import_cirrnb_alone() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    names = {name for text in texts for name in re.findall(r"\bcirrnb(?:\.[A-Za-z_]\w*)+", text)}
    names = {name for name in names if not name.endswith((".py", ".service", ".timer"))} | {"cirrnb.data.splits.random"}
    assert len(names) > 15
    missing = f"""
import cirrnb
from operator import attrgetter
missing = []
for name in {sorted(names)!r}:
    try:
        attrgetter(name.partition(".")[2])(cirrnb)
    except AttributeError:
        missing.append(name)
print(missing)
"""
    assert _python(missing) == "[]"
    with pytest.raises(AttributeError, match="nowhere"):
        _ = cirrnb.data.nowhere
