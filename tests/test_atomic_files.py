"""Files and folders are written whole or not at all, under temporary names that no other process has."""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

import cirrnb
from cirrnb.data.atomic_files import WRITING, atomic_file, atomic_folder, atomic_write
from cirrnb.data.grid import Grid
from cirrnb.simulation.scans import write


def _folder(path: Path) -> None:
    with atomic_folder(path) as beside:
        (beside / "a").write_text("new")


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: atomic_write(path, "new"),
    "simulated scan": lambda path: write(path, np.ones((7, 8, 9), np.uint8), Grid((7, 8, 9), np.eye(4))),
    "folder": _folder,
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_writer_has_a_temporary_name_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Path] = []
    for method in ("rename", "replace"):
        plain = getattr(Path, method)

        def noted(self: Path, target: Path, plain: Callable = plain) -> Path:
            used.append(self)
            moved: Path = plain(self, target)
            return moved

        monkeypatch.setattr(Path, method, noted)
    for _ in range(2):
        WRITERS[name](tmp_path / "one.nii.gz")
    assert {path.parent for path in used} == {tmp_path}
    temporary = [path.name for path in used if path.name.startswith(WRITING)]
    assert len(set(temporary)) == len(temporary) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["one.nii.gz"]


@pytest.mark.parametrize("kind", [atomic_file, atomic_folder])
def test_what_fails_half_way_leaves_what_was_there(
    kind: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    path = tmp_path / "one"
    for before in (False, True):
        if before and kind is atomic_file:
            path.write_text("old")
        elif before:
            path.mkdir()
            (path / "old").touch()
        with pytest.raises(KeyboardInterrupt), kind(path) as beside:
            (beside / "new" if kind is atomic_folder else beside).write_text("half")
            raise KeyboardInterrupt
        assert [one.name for one in tmp_path.iterdir()] == ["one"] * before
    assert path.read_text() == "old" if kind is atomic_file else [one.name for one in path.iterdir()] == ["old"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "one"
    for name in ("old", "new"):
        with atomic_folder(path) as beside:
            (beside / name).touch()
    assert [one.name for one in path.iterdir()] == ["new"] and list(path.parent.iterdir()) == [path]


def _renames_a_file(call: ast.Call) -> bool:
    """True for os.replace, shutil.move and the like, and for Path.rename and Path.replace: one argument, no literal.

    Text is replaced with two arguments, and pandas renames columns by keywords.
    """
    if not isinstance(call.func, ast.Attribute):
        return False
    name, of = call.func.attr, call.func.value
    if isinstance(of, ast.Name) and of.id in ("os", "shutil"):
        return name in ("replace", "rename", "renames", "move")
    one = len(call.args) == 1 and not call.keywords and not isinstance(call.args[0], ast.Constant)
    return one and name in ("rename", "replace")


def test_one_module_renames_files() -> None:
    package = Path(cirrnb.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _renames_a_file(node)
    }
    assert found == {"data/atomic_files.py"}
    assert all(
        _renames_a_file(call(text)) for text in ("os.replace(a, b)", "path.rename(out / name)", "a.b.replace(c)")
    )
    assert not any(_renames_a_file(call(text)) for text in ("text.replace(a, b)", "table.rename(columns=c)", "f(a)"))


def call(text: str) -> ast.Call:
    expression = ast.parse(text, mode="eval").body
    assert isinstance(expression, ast.Call)
    return expression
