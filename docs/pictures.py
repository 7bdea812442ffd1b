"""Pictures of the documentation: `python docs/pictures.py [NAME ...]`, with the extra [test] and chromium.

Without a name, every picture is made whose inputs changed since it was made; `python docs/pictures.py --list` tells
which those are. pictures.json keeps a hash of the inputs, and a test compares it. The pictures of real scans need
CIRRNB_EXTERNAL_DATA.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cirrnb.data.atomic_files import atomic_write

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
KEPT = HERE / "pictures.json"
PATIENCE = 300_000
PATIENT = "cirrhotic/10"
COMMAND = [sys.executable, "-c", "from cirrnb.cli import main; main()"]
MODEL = (
    "cirrnb/model/shipped/config.json",
    "cirrnb/model/shipped/model.safetensors",
    "cirrnb/model/shipped/*_stage.json",
    "cirrnb/model/shipped/*signs.json",
    "cirrnb/model/shipped/sign_reader/*",
)
VIEWER = ("cirrnb/viewer/*.js", "cirrnb/viewer/*.css")
REPORT = (*MODEL, *VIEWER, "cirrnb/reports/templates/*", "cirrnb/reports/formats.py", "cirrnb/view/page.css")
DARK_GROUND = (19, 20, 22)  # the ground of the site's dark pages
DARK_INK = 235
SEGMENTER = ("cirrnb/segmentation/shipped/segmenter.safetensors", "docs/segmenter_pictures.py")


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield opened
        opened.close()


def draw_explorer() -> None:
    """The explorer as a user opens it, on the patients that stand in where no cohort is given."""
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        command = [*COMMAND, "explore", "--no-browser", "--port=0", "--patient", PATIENT]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE)
        try:
            url = address(server)
            page = chromium.new_page(viewport={"width": 1240, "height": 2900})
            page.goto(url, timeout=PATIENCE)
            page.locator(".cn-pane canvas").first.wait_for(timeout=PATIENCE)
            page.get_by_role("button", name="Show the answer").click()
            page.wait_for_function("() => document.querySelector('.cn-viewer').viewer.state.overlay", timeout=PATIENCE)
            page.locator(".cn-slice-chart .cn-slice").first.wait_for(timeout=PATIENCE)
            page.locator(".cn-pane").first.focus()
            page.keyboard.press("l")
            page.mouse.move(4, 4)
            page.wait_for_timeout(1500)
            whole = page.locator(".cn-explorer").first.bounding_box()
            below = page.get_by_text("What if a sign were different?").first.bounding_box()
            height = below["y"] - whole["y"] - 12
            page.screenshot(path=HERE / "explorer.png", clip=whole | {"height": height})
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def address(server: subprocess.Popen[bytes]) -> str:
    """Of the page, with its token, once it answers."""
    assert server.stdout is not None
    lines = (re.search(r"http://\S+", line.decode()) for line in server.stdout)
    url = next(match.group() for match in lines if match)
    until = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{url.split('?')[0]}voila/static/x", timeout=5)
        except urllib.error.HTTPError:
            return url
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the server did not start")


@contextmanager
def page_of(html: str, height: int) -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        file = Path(folder) / "page.html"
        file.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><body>{html}', encoding="utf-8")
        page = chromium.new_page(viewport={"width": 1000, "height": height})
        page.goto(file.as_uri(), timeout=PATIENCE)
        yield page


def draw_sign_pair() -> None:
    """One slice with a sign and without, as the course shows it."""
    from cirrnb.course.figures import sign_switch

    with page_of(sign_switch("ascites").html + sign_switch("ascites").html, 800) as page:
        page.locator("input[value=outline]").first.check()
        page.locator("input[value=without]").last.check()
        page.locator("body").screenshot(path=HERE / "sign_pair.png")


def draw_scanner_swap() -> None:
    """What a scanner does to a model that learned from it; measured by fooled.py."""
    from cirrnb.course.figures import scanner_figure

    with page_of(scanner_figure().html, 520) as page:
        page.locator("figure").screenshot(path=HERE / "scanner_swap.png")


def draw_simulated() -> None:
    """Slices of a mild, a moderate and a severe patient."""
    with tempfile.TemporaryDirectory() as folder:
        made = [*COMMAND, "simulate", "mine", "--patients", "12", "--seed", "5", "--healthy", "0"]
        subprocess.run(made, cwd=folder, check=True)
        drawn = [*COMMAND, "gallery", "mine", "--out", str(HERE / "simulated.png"), "--patients", "1", "--slices", "1"]
        subprocess.run(drawn, cwd=folder, check=True)


def report_pages(names: dict[str, str], width: int) -> None:
    """Pages of a report on four simulated patients: picture -> file of the report."""
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        for line in ("simulate mine --patients 4 --seed 5 --healthy 0", "report mine --out report"):
            subprocess.run([*COMMAND, *line.split()], cwd=folder, check=True, capture_output=True)
        for name, pattern in names.items():
            page = chromium.new_page(viewport={"width": width, "height": 760})
            page.goto(sorted(Path(folder, "report").glob(pattern))[0].as_uri(), timeout=PATIENCE)
            page.wait_for_timeout(1500)
            page.screenshot(path=HERE / name)


@cache  # one report for both pictures
def draw_reports() -> None:
    """The index of a report, and the page of one patient."""
    report_pages({"report_index.png": "index.html", "report_page.png": "patients/*.html"}, 1100)


def draw_dark(name: str) -> Callable[[], None]:
    """A chart for a dark page: lightness is inverted, hues stay."""

    def draw() -> None:
        import numpy as np
        from PIL import Image

        light = np.asarray(Image.open(HERE / name).convert("RGB")) / 255
        inverted = light + (1 - light.max(axis=2) - light.min(axis=2))[..., None]
        shown = DARK_GROUND + inverted * (DARK_INK - np.array(DARK_GROUND))
        Image.fromarray(shown.round().astype(np.uint8)).save(HERE / name.replace(".png", "_dark.png"), optimize=True)

    return draw


def by_script(name: str) -> Callable[[], None]:
    return lambda: subprocess.run([sys.executable, HERE / name], check=True) and None


@dataclass(frozen=True)
class Picture:
    """How a picture is made, and the files that decide what it shows; None where its data must be named by hand."""

    draw: Callable[[], None] | None
    inputs: tuple[str, ...]


PICTURES = {
    "explorer.png": Picture(
        draw_explorer,
        (
            *MODEL,
            *VIEWER,
            "cirrnb/explorer/*.css",
            "cirrnb/explorer/*_slice.py",
            "cirrnb/explorer/explorer.py",
            "cirrnb/explorer/panel.py",
            "cirrnb/explorer/slice_chart.*",
            "cirrnb/view/sentences.py",
            "cirrnb/view/sign_sentences.py",
        ),
    ),
    "sign_pair.png": Picture(draw_sign_pair, (*VIEWER, "cirrnb/course/course.css", "cirrnb/course/figures.py")),
    "scanner_swap.png": Picture(draw_scanner_swap, ("cirrnb/course/scanner_swap.csv", "cirrnb/course/figures.py")),
    "simulated.png": Picture(draw_simulated, ("cirrnb/simulation/gallery.py", "cirrnb/view/images.py")),
    "segmenter_real.png": Picture(by_script("segmenter_pictures.py"), SEGMENTER),
    "segmenter_acquired.png": Picture(by_script("segmenter_pictures.py"), SEGMENTER),
    "report_index.png": Picture(draw_reports, REPORT),
    "report_page.png": Picture(draw_reports, REPORT),
    "likeness.png": Picture(None, ("cirrnb/segmentation/shipped/unusual.*", "docs/likeness.py")),
    # After those from which they are made.
    "likeness_dark.png": Picture(draw_dark("likeness.png"), ("docs/likeness.png",)),
    "scanner_swap_dark.png": Picture(draw_dark("scanner_swap.png"), ("docs/scanner_swap.png",)),
}


def inputs_hash(picture: Picture) -> str:
    """SHA-256 of the files that decide what a picture shows, by name and content."""
    digest = hashlib.sha256()
    for pattern in picture.inputs:
        files = sorted(ROOT.glob(pattern))
        if not files:
            raise SystemExit(f"{pattern}: found no such file; correct PICTURES in docs/pictures.py")
        for file in files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(ROOT).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def outdated() -> list[str]:
    """Pictures that are missing, or whose inputs are others than when they were made."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    return [
        name
        for name, picture in PICTURES.items()
        if not (HERE / name).is_file() or kept.get(name) != inputs_hash(picture)
    ]


def main() -> None:
    if sys.argv[1:] == ["--list"]:
        print("\n".join(outdated()))
        return
    for name in sys.argv[1:] or PICTURES:
        if not sys.argv[1:] and name not in outdated():
            continue
        if name not in PICTURES:
            raise SystemExit(f"{name}: found no such picture; expected one of {', '.join(PICTURES)}")
        draw = PICTURES[name].draw
        if draw is None:
            print(f"{name}: its data must be named; see docs/{Path(name).stem}.py, then give its name here")
            if name not in sys.argv[1:]:
                continue
        else:
            draw()
        kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
        kept[name] = inputs_hash(PICTURES[name])
        atomic_write(KEPT, json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
