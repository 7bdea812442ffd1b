"""Where a page comes from: versions, commit and times, without the name of a machine, a path or a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cirrnb.model.provenance import commit, now, versions

if TYPE_CHECKING:
    from nbformat import NotebookNode


def stamp(notebook: NotebookNode, name: str, started: str) -> None:
    """Write into an executed notebook what it was made with; papermill keeps its parameters there."""
    notebook.metadata["cirrnb"] = {
        "notebook": name,
        "versions": versions(),
        "commit": commit(),
        "started": started,
        "finished": now(),
    }


def colophon(*notebooks: NotebookNode) -> str:
    """One line about where executed notebooks come from, "" where none of them tells."""
    stamps: list[dict[str, Any]] = [one.metadata["cirrnb"] for one in notebooks if "cirrnb" in one.metadata]
    if not stamps:
        return ""
    last = max(stamps, key=lambda one: str(one["finished"]))
    found = last["versions"]
    source = f"cirrnb {found['cirrnb']}" + (f", commit {last['commit'][:10]}" if last["commit"] else "")
    day = str(last["finished"]).replace("T", " ").removesuffix("+00:00")
    return f"Made with {source}, Python {found['python']}, torch {found['torch']}, on {day} UTC."
