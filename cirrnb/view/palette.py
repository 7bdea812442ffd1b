"""Colours, letters and the names of signs, which every figure and page uses."""

from __future__ import annotations

UNSTAGED = "#BBBBBB"
INK = "#1F2933"
MUTED = "#5B6770"
GRID = "#E4E7EB"
ACCENT = "#33658A"
LIVER_COLOUR = "#56B4E9"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"

SIMULATED = "simulated cohort"

SIGN_COLOURS = ("#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#FFFFFF")
"""Of the outlines, in the order of `SIGNS`: Okabe and Ito's, told apart with any colour vision. The viewer's script has
the same ones."""

LABELS = {
    "nodularity": "nodular surface",
    "nodules": "nodules and septa",
    "lobes": "lobes shifted",
    "spleen": "large spleen",
    "ascites": "ascites",
    "portal": "portal hypertension",
    "fossa": "wide gallbladder fossa and notch",
}
"""What a reader calls it, from its name in `SIGNS`."""
