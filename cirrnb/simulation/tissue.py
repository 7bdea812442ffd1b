"""What a tissue gives to the signal: proton density, relaxation times, contrast agent, flow.

Relaxation times at 1.5 T and 3 T in ms: liver, spleen, kidney, pancreas, marrow and subcutaneous fat after de Bazelaire
et al., Radiology 2004;230:652; muscle and blood after Stanisz et al., MRM 2005;54:507. T2 of spleen, marrow, kidney and
of the liver at 3 T are moved within their spread, until the contrasts lie about those measured on real slices.
Contents of stomach and bowel, ligaments and cortical bone have no such table and are set so that they look as in
clinical images.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tissue:
    """One tissue.

    Attributes
    ----------
    density : proton density, 1 for water.
    t1, t2 : ms at (1.5 T, 3 T).
    contrast : mM of gadolinium in the portal venous phase.
    fat : share of the signal that is fat, hence suppressed where the sequence does so and kept alive by the echo train.
    flow : True where moving blood is black on a spin echo.
    """

    density: float
    t1: tuple[float, float]
    t2: tuple[float, float]
    contrast: float = 0.0
    fat: float = 0.0
    flow: bool = False


WATER_T1 = (3600.0, 3900.0)

TISSUES = {
    "air": Tissue(0.0, (1000, 1000), (10, 10)),
    "lung": Tissue(0.10, (1100, 1200), (24, 20), 0.25),
    "skin": Tissue(0.80, (600, 700), (38, 32), 0.1),
    "fat": Tissue(0.90, (343, 382), (58, 68), 0.0, 1.0),
    "stranded fat": Tissue(0.85, (360, 400), (58, 66), 0.05, 0.88),
    "muscle": Tissue(0.80, (856, 898), (29, 27), 0.12),
    "fascia": Tissue(0.35, (700, 750), (16, 14), 0.05),
    "cortical bone": Tissue(0.10, (500, 600), (4, 3)),
    "marrow": Tissue(0.70, (549, 586), (49, 46), 0.12, 0.46),
    "disc": Tissue(0.80, (900, 1000), (62, 58)),
    "csf": Tissue(1.0, WATER_T1, (1400, 1300)),
    "cord": Tissue(0.85, (900, 1000), (78, 72), 0.0),
    "liver": Tissue(0.82, (586, 809), (46, 37), 0.36),
    "septa": Tissue(0.85, (780, 950), (66, 50), 0.46),
    "spleen": Tissue(0.80, (1057, 1328), (71, 55), 0.62),
    "pancreas": Tissue(0.82, (584, 725), (52, 46), 0.34, 0.08),
    "renal cortex": Tissue(0.86, (966, 1142), (80, 70), 1.1),
    "renal medulla": Tissue(0.92, (1412, 1545), (104, 98), 0.62),
    "urine": Tissue(1.0, WATER_T1, (900, 800), 0.2),
    "adrenal": Tissue(0.82, (700, 850), (64, 58), 0.4),
    "artery": Tissue(0.92, (1441, 1932), (290, 275), 0.95, flow=True),
    "vein": Tissue(0.92, (1441, 1932), (290, 275), 1.0, flow=True),
    "portal vein": Tissue(0.92, (1441, 1932), (290, 275), 1.1, flow=True),
    "vessel wall": Tissue(0.70, (800, 950), (40, 36), 0.3),
    "heart": Tissue(0.85, (1000, 1150), (44, 40), 0.5),
    "bile": Tissue(1.0, (2600, 2800), (700, 650)),
    "ascites": Tissue(1.0, WATER_T1, (1100, 1000)),
    "hollow wall": Tissue(0.82, (850, 950), (58, 52), 0.45),
    "stomach content": Tissue(0.92, (1800, 2000), (150, 130)),
    "bowel content": Tissue(0.85, (1100, 1200), (120, 110), 0.05),
    "stool": Tissue(0.55, (700, 800), (44, 40), 0.0, 0.05),
    "duct": Tissue(1.0, (2600, 2800), (600, 550)),
}
