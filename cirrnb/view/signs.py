"""What the planted signs of simulated patients are called and in which colours they are outlined."""

from __future__ import annotations

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
