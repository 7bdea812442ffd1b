"""Structure of the package: layers of imports, quick start of commands, names, length of files and functions."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import cirrnb

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(cirrnb.__file__).parent
HEAVY = {
    "torch",
    "timm",
    "pandas",
    "scipy",
    "sklearn",
    "plotly",
    "papermill",
    "nbformat",
    "nbconvert",
    "nibabel",
    "captum",
}
COMMANDS = ("simulate", "audit", "prepare", "run", "train", "evaluate", "explore", "learn", "demo")


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["run", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from cirrnb.cli import main
sys.argv[0] = "cirrnb"
try:
    main()
except SystemExit as left:
    assert not left.code, left
print("HEAVY", sorted({HEAVY!r} & set(sys.modules)))
"""
    said = python(code, *arguments)
    assert said.endswith("HEAVY []\n"), said


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert python(f"import cirrnb, sys; print(sorted({HEAVY | {'numpy'}!r} & set(sys.modules)))") == "[]\n"


def test_every_command_has_its_line_of_help() -> None:
    said = python("import sys; sys.argv = ['cirrnb', '--help']; from cirrnb.cli import main; main()")
    lines = {words[0]: words[1:] for line in said.splitlines() if (words := line.split())}
    for command in COMMANDS:
        assert len(lines.get(command, [])) > 2, command


def test_no_package_hides_a_public_function() -> None:
    """A sub-package named like a function would take its place in the package once imported."""
    for module in pkgutil.walk_packages([str(PACKAGE)], "cirrnb."):
        import_module(module.name)
    verbs = [name for name in cirrnb.__all__ if not name.startswith("_")]
    assert set(verbs) == {
        "Model",
        "adapt",
        "read_cohort",
        "simulate_cohort",
        "prepare",
        "train",
        "cross_validate",
        "predict",
        "evaluate",
        "explain",
        "faithfulness",
        "slice_browser",
        "splits",
        "SliceExplorer",
    }
    for name in set(verbs) - {"splits"}:  # a module
        assert callable(getattr(cirrnb, name)), name
    assert set(verbs) <= set(dir(cirrnb))
    with pytest.raises(AttributeError, match="no_such_verb"):
        _ = cirrnb.no_such_verb


def test_imports_follow_the_layers() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 450
    assert ast.get_docstring(ast.parse(text)), "the first line of a file says what it is for"


VAGUE = {"told", "said", "one", "own", "beside", "found"}
"""Names that do not say what they hold."""
PUBLIC = {("errors.py", "found"), ("body.py", "own")}
"""Fields of public classes."""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_name_says_what_it_holds(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    bound = {(node.id, node.lineno) for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {(node.arg, node.lineno) for node in nodes if isinstance(node, ast.arg)}
    assert not {(name, line) for name, line in bound if name in VAGUE and (path.name, name) not in PUBLIC}


POSIX_ONLY = {"crypt", "fcntl", "grp", "nis", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}


def test_no_module_is_imported_that_only_one_system_has() -> None:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if foreign := {name.partition(".")[0] for name in names} & (POSIX_ONLY | {"winreg", "msvcrt"}):
                found[path.name] = foreign
    assert not found


def test_the_page_of_the_package_index_needs_no_other_file() -> None:
    """An index shows the text alone: relative links and pictures of the repository lead nowhere there."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / metadata["readme"]).read_text(encoding="utf-8")
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]*)\)", text))
    assert "](" in text and "not a medical device" in text.lower()
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert metadata["readme"] in " ".join(copied).split() and f"!{metadata['readme']}" in kept
