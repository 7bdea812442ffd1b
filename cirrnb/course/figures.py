"""Figures of the course: a sign switched on and off, named organs, and one patient on two scanners."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.ndimage import binary_closing

from cirrnb.data.bag import Bag
from cirrnb.data.pictures import grey_picture, outline_picture
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.explanation.sign_pair import Anatomy, SignPair
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.simulation.scans import SCANNERS
from cirrnb.simulation.signs import SIGNS
from cirrnb.view.slices import Slice, montage
from cirrnb.view.theme import FONT, INK, LABELS, SIGN_COLOURS, finish

CLOSED = 3.0
"""mm over which gaps in an outlined region are closed: single pixels have no outline worth drawing."""

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


def sign_switch(pairs: Sequence[SignPair]) -> SwitchFigure:
    """One sign in each sequence that is handed in, shown at first, to be taken away and outlined."""
    sign = pairs[0].sign
    name = LABELS[sign]
    group = f"cn-{uuid.uuid4().hex[:10]}"
    controls = (
        f"<fieldset><legend>{escape(name[0].upper() + name[1:])}</legend>"
        f'<label><input type="radio" name="{group}" value="with" checked> with the sign</label>'
        f'<label><input type="radio" name="{group}" value="without"> without it</label>'
        '<label><input type="checkbox" value="outline"> outline what the sign changed</label></fieldset>'
    )
    panels = "".join(_pair(pair, name) for pair in pairs)
    words = f"{SIMULATED} The same slice of the same patient; nothing differs but the sign."
    return switch_figure(f"{name}, with and without", controls, panels, words)


def named_organs(slices: Sequence[Anatomy]) -> SwitchFigure:
    """The same height in each sequence that is handed in, with the names of the organs, which can be hidden."""
    controls = '<fieldset><label><input type="checkbox" value="names" checked> names of the organs</label></fieldset>'
    panels = "".join(_anatomy(one) for one in slices)
    return switch_figure("organs of the upper abdomen, named", controls, panels, SIMULATED)


def riddle(pair: SignPair, *, named: bool = True) -> SwitchFigure:
    """A slice with a sign that is not told, for an exercise; without `named` its sequence is not told either."""
    name = f"{pair.sequence} slice" if named else "a slice"
    shown = panel(pair.sequence if named else "", f'<img alt="{name} to be judged" src="{grey_picture(pair.shown)}">')
    return switch_figure("a slice to be judged", "", shown, SIMULATED, "cn-riddle")


def _pair(pair: SignPair, name: str) -> str:
    colour = SIGN_COLOURS[SIGNS.index(pair.sign)]
    reach = np.ones([2 * round(CLOSED / 2 / step) + 1 for step in pair.spacing], bool)
    region = binary_closing(np.pad(pair.changed, 8), reach)[8:-8, 8:-8]
    seen = f"{pair.sequence} slice of the upper abdomen"
    return panel(
        pair.sequence,
        f'<img class="cn-with" alt="{seen} with {escape(name)}" src="{grey_picture(pair.shown)}">'
        f'<img class="cn-without" alt="{seen} without {escape(name)}" src="{grey_picture(pair.without)}">'
        f'<img class="cn-edge" alt="outlined: {escape(name)}" src="{outline_picture(region, colour)}">',
    )


def _anatomy(one: Anatomy) -> str:
    rows, columns = one.image.shape
    names = ""
    for name, (row, column) in one.places.items():
        place = f"left:{100 * (column + 0.5) / columns:.1f}%;top:{100 * (row + 0.5) / rows:.1f}%"
        names += f'<span class="cn-organ" style="{place}">{escape(name)}</span>'
    picture = f'<img alt="{one.sequence} slice of the upper abdomen" src="{grey_picture(one.image)}">'
    return panel(one.sequence, picture + names)


def panel(words: str, pictures: str) -> str:
    """Pictures that lie on each other, as HTML, with words in the upper left corner, R and L."""
    return (
        f'<div class="cn-panel">{pictures}<span style="left:6px;top:4px">{words}</span>'
        '<span style="left:6px;top:48%">R</span><span style="right:6px;top:48%">L</span></div>'
    )


def switch_figure(label: str, controls: str, panels: str, words: str, kind: str = "") -> SwitchFigure:
    """Panels beside each other, with controls above them (or none) and `words` below."""
    # JupyterLab has shortcuts of its own on the arrow keys that choose between radio buttons.
    return SwitchFigure(
        f'<figure class="cn-switch {kind}" aria-label="{escape(label)}" data-lm-suppress-shortcuts="true">'
        f"<style>{_STYLE}</style>{controls}"
        f'<div class="cn-panels">{panels}</div><figcaption>{words}</figcaption></figure>'
    )


RECORDED = "scanner_swap.csv"
"""What `python docs/fooled.py` measured: the benchmark's stager with a scanner shortcut, and the package's model."""


def two_scanners(bag: Bag, truth: SimulatedTruth) -> go.Figure:
    """One patient as both scanners see it, where the liver is widest."""
    rows: dict[str, list[Slice | None]] = {name: [] for name in bag.scans}
    for scanner, field in SCANNERS.items():
        for name, image in truth.on_scanner(bag, scanner).items():
            scan = bag.scans[name]
            index = scan.widest
            place = float(scan.positions[index])
            rows[name].append(Slice(image[index], scan.grid.spacing[1:], place, f"scanner {scanner}, {field}"))
    return montage(rows, simulated=True, title="One patient on two scanners")


def recorded() -> pd.DataFrame:
    """The measured scores: model, subject, stage, A and B (log-odds for severity on each scanner)."""
    with files("cirrnb.course").joinpath(RECORDED).open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#")


def scanner_figure(table: pd.DataFrame | None = None) -> go.Figure:
    """Each patient's score on scanner A and on B; `table` as `scanner_swap` returns, else as recorded."""
    table = recorded() if table is None else table
    models = list(dict.fromkeys(table["model"]))
    titles = [f"{name}<br>{_moved(table[table['model'] == name])}" for name in models]
    figure = make_subplots(rows=1, cols=len(models), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.05)
    seen: set[str] = set()
    for column, model in enumerate(models, start=1):
        for row in table[table["model"] == model].to_dict("records"):
            stage = str(row["stage"])
            figure.add_scatter(
                x=["scanner A", "scanner B"],
                y=[row["A"], row["B"]],
                mode="lines+markers",
                name=stage,
                legendgroup=stage,
                legendrank=1 + CIRRHOSIS.index(stage),
                showlegend=stage not in seen,
                line={"color": CIRRHOSIS.colour[stage], "width": 1.5},
                marker={"size": 7},
                hovertemplate=f"{stage}, %{{x}}: %{{y:+.1f}} log-odds<extra></extra>",
                row=1,
                col=column,
            )
            seen.add(stage)
    figure.update_annotations(font={"size": 13, "color": INK})
    figure.update_yaxes(title_text="score for severity (log-odds)", row=1, col=1)
    figure = finish(figure, "The same patients on two scanners", simulated=True, height=480)
    return figure.update_layout(margin_t=130, legend_y=1.16)


def _moved(rows: pd.DataFrame) -> str:
    step = rows["B"] - rows["A"]
    return f"B minus A: {step.mean():+.1f} log-odds on average ({step.min():+.1f} to {step.max():+.1f})"
