"""Figures of the course: a sign switched on and off, named organs, and one patient on two scanners."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from cirrnb.course.lesson import LessonAnatomy, LessonPair, lesson_anatomy, lesson_pair, picture
from cirrnb.data.pictures import grey_picture
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.view.palette import FONT, INK, LABELS, MUTED

if TYPE_CHECKING:
    from cirrnb.data.bag import Bag
    from cirrnb.explanation.simulated_truth import SimulatedTruth

SIMULATED = "Simulated slices: computed, not scanned. The patient's right is on the left."

_STYLE = f"""
.cn-switch {{ margin: 0 0 8px; font: 14px/1.45 {FONT}; color: #1f2933; background: #fff; max-width: 1100px; }}
.cn-switch fieldset {{ border: 0; margin: 0 0 6px; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 20px; }}
.cn-switch legend {{ float: left; font-weight: 600; margin-right: 20px; padding: 0; }}
.cn-switch label {{ display: inline-flex; align-items: center; gap: 6px; }}
.cn-switch input {{ accent-color: #33658a; width: 16px; height: 16px; margin: 0; }}
.cn-switch input:focus-visible {{ outline: 3px solid #b45f06; outline-offset: 2px; }}
.cn-panels {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 6px;
  background: #111; padding: 6px; }}
.cn-panel {{ position: relative; align-self: center; }}
.cn-panel img {{ display: block; width: 100%; height: auto; }}
.cn-panel img.cn-edge {{ position: absolute; inset: 0; height: 100%;
  filter: drop-shadow(0 0 1px #000) drop-shadow(0 0 1px #000); }}
.cn-panel span {{ position: absolute; color: #fff; font-weight: 600; font-size: 13px;
  text-shadow: 0 0 3px #000, 0 0 3px #000, 0 0 2px #000; }}
.cn-panel span.cn-organ {{ transform: translate(-50%, -50%); font-weight: 500; font-size: 12px; white-space: nowrap; }}
.cn-switch.cn-riddle {{ max-width: 480px; }}
.cn-switch.cn-four {{ max-width: 900px; }}
.cn-row-of-drawings {{ display: flex; flex-wrap: wrap; gap: 8px 32px; }}
.cn-row-of-drawings > p {{ flex: 1 1 100%; margin: 0; }}
.cn-drawing {{ flex: 1 1 300px; min-width: 0; }}
.cn-drawing p {{ margin: 0 0 4px; color: {MUTED}; }}
.cn-key::before {{ content: ""; display: inline-block; width: 12px; height: 12px; margin: 0 6px 0 0;
  background: var(--colour); }}
.cn-key {{ margin-right: 18px; }}
@media (max-width: 600px) {{ .cn-switch legend {{ float: none; width: 100%; }} }}
.cn-switch figcaption {{ color: #5b6770; font-size: 13px; margin-top: 4px; }}
.cn-switch:has([value="without"]:checked) .cn-with,
.cn-switch:has([value="with"]:checked) .cn-without,
.cn-switch:has([value="outline"]:not(:checked)) .cn-edge,
.cn-switch:has([value="names"]:not(:checked)) .cn-organ {{ display: none; }}
"""


@dataclass(frozen=True)
class SwitchFigure:
    """A figure for a notebook or a page; `html` is all of it, and needs neither kernel nor script."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def sign_switch(sign: str, sequences: Sequence[str] = ("T1W", "T2W")) -> SwitchFigure:
    """One sign in each sequence, shown at first, to be taken away and outlined."""
    name = LABELS[sign]
    group = f"cn-{uuid.uuid4().hex[:10]}"
    controls = (
        f"<fieldset><legend>{escape(name[0].upper() + name[1:])}</legend>"
        f'<label><input type="radio" name="{group}" value="with" checked> with the sign</label>'
        f'<label><input type="radio" name="{group}" value="without"> without it</label>'
        '<label><input type="checkbox" value="outline"> outline what the sign changed</label></fieldset>'
    )
    panels = "".join(_pair(lesson_pair(sign, sequence), name) for sequence in sequences)
    words = f"{SIMULATED} The same slice of the same patient; nothing differs but the sign."
    return switch_figure(f"{name}, with and without", controls, panels, words)


def named_organs(sequences: Sequence[str] = ("T1W", "T2W")) -> SwitchFigure:
    """The same height in each sequence, with the names of the organs, which can be hidden."""
    controls = '<fieldset><label><input type="checkbox" value="names" checked> names of the organs</label></fieldset>'
    panels = "".join(_anatomy(lesson_anatomy(sequence)) for sequence in sequences)
    return switch_figure("organs of the upper abdomen, named", controls, panels, SIMULATED)


def riddle(sign: str | None = None, sequence: str = "T1W") -> SwitchFigure:
    """A slice with an unnamed sign, for an exercise; without a sign, a slice of an unnamed sequence."""
    pixels = picture("riddle.webp") if sign is None else lesson_pair(sign, sequence).shown
    name = "a slice" if sign is None else f"{sequence} slice"
    shown = panel("" if sign is None else sequence, f'<img alt="{name} to be judged" src="{pixels}">')
    return switch_figure("a slice to be judged", "", shown, SIMULATED, "cn-riddle")


VESSELS = {
    "fast": "fast flow: vessels black",
    "slow": "slow flow: veins bright",
    "slow-suppressed": "slow flow, fat suppressed",
}
"""How T2W may show vessels and fat, from the name of the lesson's picture."""


def vessels_on_t2w() -> SwitchFigure:
    """One T2W slice with fast flow, with slow flow, and with slow flow and suppressed fat."""
    panels = "".join(
        panel(words, f'<img alt="T2W slice; {words}" src="{picture(f"vessels-{name}.webp")}">')
        for name, words in VESSELS.items()
    )
    words = f"{SIMULATED} The same slice of the same patient in three protocols; all three are T2W."
    return switch_figure("vessels on T2W: fast flow, slow flow, fat suppressed", "", panels, words)


def _pair(pair: LessonPair, name: str) -> str:
    seen = f"{pair.sequence} slice of the upper abdomen"
    return panel(
        pair.sequence,
        f'<img class="cn-with" alt="{seen} with {escape(name)}" src="{pair.shown}">'
        f'<img class="cn-without" alt="{seen} without {escape(name)}" src="{pair.without}">'
        f'<img class="cn-edge" alt="outlined: {escape(name)}" src="{pair.edge}">',
    )


def _anatomy(view: LessonAnatomy) -> str:
    names = ""
    for name, (down, across) in apart(view.places).items():
        place = f"left:{100 * across:.1f}%;top:{100 * down:.1f}%"
        names += f'<span class="cn-organ" style="{place}">{escape(name)}</span>'
    return panel(view.sequence, f'<img alt="{view.sequence} slice of the upper abdomen" src="{view.picture}">' + names)


LETTER, LINE = 0.021, 0.078
"""Width of a letter and height of a line, in shares of a picture as a phone shows it (330 pixels wide)."""


def apart(places: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Places of names (down, across) moved up and down until no name covers another on a phone."""
    moved = {name: list(place) for name, place in places.items()}

    def covered(first: str, second: str) -> float:
        """By how much two names lie over each other from top to bottom; 0 where they do not."""
        wide = LETTER * (len(first) + len(second)) / 2
        if abs(moved[first][1] - moved[second][1]) >= wide:
            return 0.0
        return max(0.0, LINE - abs(moved[first][0] - moved[second][0]))

    for _ in range(50):
        pairs = [
            (first, second) for first in moved for second in moved if first < second and covered(first, second) > 1e-4
        ]
        if not pairs:
            break
        for first, second in pairs:
            step = covered(first, second) / 2 + 1e-4
            upper, lower = sorted((first, second), key=lambda name: moved[name][0])
            moved[upper][0] -= step
            moved[lower][0] += step
    return {name: (down, across) for name, (down, across) in moved.items()}


def panel(words: str, pictures: str) -> str:
    """Pictures that lie on each other, as HTML, with words in the upper left corner, R and L."""
    return (
        f'<div class="cn-panel">{pictures}<span style="left:6px;top:4px">{words}</span>'
        '<span style="left:6px;top:48%">R</span><span style="right:6px;top:48%">L</span></div>'
    )


def switch_figure(label: str, controls: str, panels: str, words: str, kind: str = "") -> SwitchFigure:
    """Panels side by side, with controls above them (or none) and `words` below."""
    # JupyterLab has shortcuts of its own on the arrow keys that choose between radio buttons.
    return SwitchFigure(
        f'<figure class="cn-switch {kind}" aria-label="{escape(label)}" data-lm-suppress-shortcuts="true">'
        f"<style>{_STYLE}</style>{controls}"
        f'<div class="cn-panels">{panels}</div><figcaption>{words}</figcaption></figure>'
    )


RECORDED = "scanner_swap.csv"
"""What `python docs/fooled.py` measured: the benchmark's stager with a scanner shortcut, and the package's model."""


def two_scanners(bag: Bag, truth: SimulatedTruth) -> SwitchFigure:
    """One patient as both scanners see it, where the liver is widest."""
    from cirrnb.simulation.scans import SCANNERS

    made = {name: truth.on_scanner(bag, name) for name in SCANNERS}
    panels = ""
    for sequence, scan in bag.scans.items():
        for name, field in SCANNERS.items():
            words = f"{sequence}, scanner {name} ({field})"
            pixels = grey_picture(made[name][sequence][scan.widest])
            panels += panel(words, f'<img alt="{words}" src="{pixels}">')
    return switch_figure("one patient on two scanners", "", panels, SIMULATED, "cn-four")


def recorded() -> list[dict[str, str]]:
    """The measured scores: model, subject, stage, A and B (log-odds for severity on each scanner)."""
    with files("cirrnb.course").joinpath(RECORDED).open(encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def scanner_figure() -> SwitchFigure:
    """Each patient's recorded score on scanner A and on B, a line each; a picture for each model."""
    rows = recorded()
    scores = [float(row[name]) for row in rows for name in "AB"]
    low, high = min(scores) - 0.5, max(scores) + 0.5
    models = dict.fromkeys(row["model"] for row in rows)
    panels = "".join(_slopes(model, [row for row in rows if row["model"] == model], low, high) for model in models)
    legend = "".join(
        f'<span class="cn-key" style="--colour:{CIRRHOSIS.colour[stage]}">{stage}</span>' for stage in CIRRHOSIS
    )
    words = "The same simulated patients on two scanners; the score speaks for severity, in log-odds."
    return drawn_figure("the same patients on two scanners", f"<p>{legend}</p>{panels}", words)


AXIS = "score for severity (log-odds)"


def _slopes(model: str, rows: Sequence[Mapping[str, str]], low: float, high: float) -> str:
    wide, high_px, left, right, top, bottom = 380, 330, 66, 350, 12, 290

    def y(score: float) -> float:
        return bottom - (score - low) / (high - low) * (bottom - top)

    parts = []
    for tick in range(int(low) - int(low) % 5, int(high) + 1, 5):
        if low <= tick <= high:
            parts.append(f'<path d="M{left} {y(tick):.1f}H{right}" stroke="#E4E7EB"/>')
            words = f"{tick:+d}".replace("-", "−") if tick else "0"
            parts.append(f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{words}</text>')
    middle = (top + bottom) / 2
    parts.append(
        f'<text transform="translate(16 {middle:.0f}) rotate(-90)" text-anchor="middle">{AXIS}</text>'
        f'<text x="{left}" y="{top - 1}" font-size="11" fill="{MUTED}">more severe \u2191</text>'
    )
    for row in rows:
        start, end = (y(float(row[name])) for name in "AB")
        colour = CIRRHOSIS.colour[row["stage"]]
        parts.append(
            f'<path d="M{left + 30} {start:.1f}L{right - 30} {end:.1f}" stroke="{colour}" stroke-width="1.5"/>'
        )
        for x, place in ((left + 30, start), (right - 30, end)):
            parts.append(f'<circle cx="{x}" cy="{place:.1f}" r="3.5" fill="{colour}"/>')
    for x, name in ((left + 30, "scanner A"), (right - 30, "scanner B")):
        parts.append(f'<text x="{x}" y="{bottom + 22}" text-anchor="middle">{name}</text>')
    steps = [float(row["B"]) - float(row["A"]) for row in rows]
    moved = f"B minus A: {sum(steps) / len(steps):+.1f} on average ({min(steps):+.1f} to {max(steps):+.1f})".replace(
        "-", "\u2212"
    )
    return drawing(f"{model}: {moved}", wide, high_px, "".join(parts), f"<b>{escape(model)}</b><br>{moved}")


def drawing(alt: str, wide: int, high: int, shapes: str, title: str = "") -> str:
    """A drawing as inline SVG with a title above it, no wider than the page and never smaller than it can be read."""
    return (
        f'<div class="cn-drawing" style="max-width:{1.35 * wide:.0f}px">{f"<p>{title}</p>" if title else ""}'
        f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {wide} {high}" width="100%" font-family="{FONT}" '
        f'font-size="12" fill="{INK}" stroke-linecap="round">{shapes}</svg></div>'
    )


def drawn_figure(label: str, content: str, words: str) -> SwitchFigure:
    """Drawings side by side, or below each other where the page is narrow."""
    return SwitchFigure(
        f'<figure class="cn-switch cn-drawings" aria-label="{escape(label)}"><style>{_STYLE}</style>'
        f'<div class="cn-row-of-drawings">{content}</div><figcaption>{words}</figcaption></figure>'
    )
