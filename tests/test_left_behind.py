"""What commands and notebooks write where they are run from a checkout stays out of git."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cirrnb.run.parameters import TAG, parse_schema

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no checkout, or no git"
)


def _ignored(paths: list[str]) -> set[str]:
    """Those that git does not see, whether they exist or not."""
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        input="\n".join(paths),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert asked.returncode in (0, 1), asked.stderr
    return set(asked.stdout.split())


def _defaults() -> set[str]:
    """Folders and files that notebooks write by default, from their parameters and from their code."""
    found = {"prepared/mine", "explanations/x", "course/progress.json", "cohorts/mine", "runs/mine", "models/site"}
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            source = "".join(cell["source"])
            if TAG in cell["metadata"].get("tags", []):
                values = [one.default for one in parse_schema(source, notebook.name).values()]
                found |= {value for value in values if isinstance(value, str) and "/" in value}
            elif cell["cell_type"] == "code":
                found |= set(re.findall(r'Path\("([\w/]+)"\)', source))
    return found


def test_what_notebooks_and_commands_write_is_ignored() -> None:
    written = _defaults()
    assert {"runs/demo", "cohorts/course", "reports/nightly"} <= written
    paths = [f"{place}{path}/a" for path in written for place in ("", "notebooks/")]
    assert _ignored(paths) == set(paths)


def test_nothing_that_is_kept_is_ignored() -> None:
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert {f"notebooks/{notebook.name}" for notebook in NOTEBOOKS} <= set(kept)
    assert _ignored([path for path in kept if path]) == set()
