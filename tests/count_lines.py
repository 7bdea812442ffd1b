"""Size of the package: `python tests/count_lines.py`.

Lines of Python, JavaScript, CSS and templates in cirrnb/, and of code cells in notebooks/. The segmenter and its
generator are counted apart.
"""

from __future__ import annotations

import ast
import json
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENDINGS = (".py", ".js", ".css", ".html", ".j2")
GENERATOR = ("acquisition", "anatomy", "contrast", "rendering", "tissue_shares", "wide")
APART = ("cirrnb/segmentation/", *(f"cirrnb/simulation/{name}.py" for name in GENERATOR))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    counts: dict[str, int] = {}
    files = 0
    lengths: list[int] = []
    for path in sorted((ROOT / "cirrnb").rglob("*")):
        if path.suffix not in ENDINGS or "__pycache__" in path.parts:
            continue
        name = path.relative_to(ROOT).as_posix()
        apart = name.startswith(APART)
        kind = "segmenter and generator" if apart else path.suffix.lstrip(".")
        counts[kind] = counts.get(kind, 0) + lines(path)
        if path.suffix == ".py":
            files += 1
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            lengths += [
                (node.end_lineno or 0) - node.lineno + 1
                for node in nodes
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = sum(len("".join(cell["source"]).splitlines()) for cell in cells if cell["cell_type"] == "code")
        counts["notebook code"] = counts.get("notebook code", 0) + code
    apart = counts.pop("segmenter and generator")
    for kind, count in counts.items():
        print(f"{kind:24} {count:6}")
    print(f"{'together':24} {sum(counts.values()):6}")
    print(f"{'segmenter and generator':24} {apart:6}")
    print(f"Python files {files}, median length of a function {statistics.median(lengths):g} lines")


if __name__ == "__main__":
    main()
