"""Figures hold the numbers they were given, say whether the cohort is simulated, and keep right and left apart."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from cirrnb.data.bag import Bag
from cirrnb.data.grid import Grid
from cirrnb.data.pictures import grey_picture, outline_picture
from cirrnb.data.prepared import PreparationSettings, PreparedScan
from cirrnb.data.scan import Scan
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.view import cohort, evaluation, slices
from cirrnb.view.evaluation import learning_curve
from cirrnb.view.page import NOTICE, Notice
from cirrnb.view.palette import SIMULATED
from cirrnb.view.slices import Slice

SCANS = pd.DataFrame(
    [
        ("a/1", "T1W", "train", "mild", 1000.0),
        ("a/1", "T2W", "train", "mild", 1100.0),
        ("a/2", "T1W", "train", "severe", 900.0),
        ("a/3", "T1W", "test", "mild", np.nan),
        ("a/4", "T2W", None, None, 1200.0),
    ],
    columns=["subject", "sequence", "split", "stage", "liver_volume"],
)
PATIENTS = pd.DataFrame(
    {
        "stage": ["mild", "severe", "mild", None],
        "age": [50.0, None, 61.0, 70.0],
        "sex": ["female", "male", None, "male"],
        "split": ["train", "train", "test", None],
        "T1W": [True, True, True, False],
        "T2W": [True, False, False, True],
    },
    index=pd.Index(["a/1", "a/2", "a/3", "a/4"], name="subject"),
)
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "train_loss": [1.1, 0.9],
        "valid_loss": [1.0, 1.2],
        "train_kappa": [0.1, 0.4],
        "valid_kappa": [-0.3, 0.2],
    }
)
METRICS = pd.DataFrame(
    [
        ("quadratic weighted kappa", 0.5, 0.2, 0.8, 0.0, 0.0, True, 10),
        ("accuracy", 0.6, 0.3, 0.8, 1 / 3, 0.5, True, 10),
        ("balanced accuracy", np.nan, np.nan, np.nan, np.nan, np.nan, True, 10),
        ("mean absolute stage error", 0.4, np.nan, np.nan, 0.9, 0.7, False, 10),
    ],
    columns=["metric", "value", "low", "high", "chance", "majority", "higher_is_better", "n"],
)


def one_slice(label: str = "mild, patient 1") -> Slice:
    """7 x 9 pixels of 2 x 3 mm: 14 mm from front to back, 27 mm from right to left; bright at the right front."""
    pixels = np.zeros((7, 9), dtype=np.float32)
    pixels[0, 0] = 1
    mask = np.zeros((7, 9), dtype=bool)
    mask[2:5, 1:4] = True
    return Slice(pixels, (2.0, 3.0), -12.4, label, mask)


FIGURES: dict[str, Callable[[bool], go.Figure]] = {
    "stage_counts": lambda simulated: cohort.stage_counts(SCANS, simulated=simulated),
    "age_by_stage": lambda simulated: cohort.age_by_stage(PATIENTS, simulated=simulated),
    "liver_volume_by_stage": lambda simulated: cohort.liver_volume_by_stage(SCANS, simulated=simulated),
    "montage": lambda simulated: slices.montage({"T1W": [one_slice()], "T2W": [None]}, simulated=simulated),
    "learning_curve": lambda simulated: learning_curve(HISTORY, simulated=simulated),
    "confusion_matrix": lambda simulated: evaluation.confusion_matrix(np.eye(3), simulated=simulated),
    "metric_forest": lambda simulated: evaluation.metric_forest(METRICS, simulated=simulated),
}


def words(figure: go.Figure) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_that_its_cohort_is_simulated(name: str) -> None:
    assert words(FIGURES[name](True)).count(SIMULATED) == 1
    assert SIMULATED not in words(FIGURES[name](False))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_title_height_and_white_ground(name: str) -> None:
    layout = FIGURES[name](True).layout
    assert layout.title.text and layout.height > 100
    assert layout.template.layout.paper_bgcolor == "white"


def bars(figure: go.Figure) -> dict[tuple[str, str], list[int]]:
    return {(trace.name, trace.xaxis): list(trace.y) for trace in figure.data}


def test_stage_counts_are_those_of_the_table() -> None:
    figure = cohort.stage_counts(SCANS, simulated=True)
    assert list(figure.data[0].x) == ["train", "test", "no split"]
    found = bars(figure)
    assert found["mild", "x"] == [1, 1, 0] and found["severe", "x"] == [1, 0, 0]
    assert found["mild", "x2"] == [1, 0, 0] and found["not staged", "x2"] == [0, 0, 1]
    assert ("not staged", "x") not in found  # every T1W scan has a stage
    assert {trace.marker.color for trace in figure.data if trace.name == "mild"} == {CIRRHOSIS.colour["mild"]}
    assert [axis.title.text for axis in (figure.layout.xaxis, figure.layout.xaxis2)] == ["T1W, 3 scans", "T2W, 2 scans"]


def test_ages_and_volumes_are_told_with_their_numbers() -> None:
    ages = cohort.age_by_stage(PATIENTS, simulated=True)
    assert [list(trace.x) for trace in ages.data] == [[50.0, 61.0], [], []]
    assert list(ages.layout.yaxis.ticktext) == ["mild<br>n = 2", "moderate<br>n = 0", "severe<br>n = 0"]
    assert "years" in ages.layout.xaxis.title.text
    volumes = cohort.liver_volume_by_stage(SCANS, simulated=True)
    assert {(trace.name, trace.xaxis): list(trace.x) for trace in volumes.data if len(trace.x)} == {
        ("mild", "x"): [1000.0],
        ("severe", "x"): [900.0],
        ("mild", "x2"): [1100.0],
    }
    assert "mL" in volumes.layout.xaxis.title.text
    assert "a/1" in volumes.data[0].text


def test_the_summary_counts_patients() -> None:
    table = cohort.summary(PATIENTS)
    assert list(table.index) == ["mild", "severe", "not staged", "all"]
    assert table.loc["mild"].to_list() == [2, 1, 1, 0, "1 / 0", "56 (50 to 61)"]
    assert table.loc["severe"].to_list() == [1, 0, 1, 0, "0 / 1", "unknown"]
    assert table.loc["all", "patients"] == 4


def test_the_split_table_counts_patients() -> None:
    table = cohort.split_counts(PATIENTS)
    assert list(table.index) == ["train", "test", "no split", "all"]
    assert table.loc["train"].to_dict() == {"mild": 1, "severe": 1, "not staged": 0, "all": 2}
    assert table.loc["all", "all"] == 4


def decoded(uri: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_a_picture_is_the_slice_as_it_is() -> None:
    values = np.array([[0.0, 0.5, 1.0], [-1.0, 2.0, np.nan]])
    assert decoded(grey_picture(values))[..., 0].tolist() == [[0, 128, 255], [0, 255, 0]]
    assert decoded(grey_picture(values, window=(0.5, 1.0)))[..., 0].tolist() == [[0, 0, 255], [0, 255, 0]]
    with pytest.raises(ValueError, match="rows, columns"):
        grey_picture(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="window"):
        grey_picture(values, window=(1.0, 1.0))


def test_the_outline_runs_inside_the_edge_of_the_mask() -> None:
    mask = np.zeros((12, 20), dtype=bool)
    mask[3:10, 4:16] = True
    picture = decoded(outline_picture(mask, "#56B4E9", magnify=4))
    assert picture.shape == (48, 80, 4)
    drawn = picture[..., 3] > 0
    assert set(map(tuple, picture[drawn])) == {(0x56, 0xB4, 0xE9, 255)}
    assert not drawn[24, 40]  # the middle stays free
    rows, columns = np.nonzero(drawn)
    # The mask's own edges are at 4 times rows 3 to 10 and columns 4 to 16.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 39, 16, 63)


def test_slices_lie_as_a_radiologist_reads_them() -> None:
    figure = slices.montage({"T1W": [one_slice()]}, outline=True, simulated=True)
    picture, outline = figure.layout.images
    assert decoded(picture.source)[0, 0, 0] == 255 and decoded(picture.source)[1:, 1:, 0].max() == 0
    # Upper left of the picture at the start of a rising x and of a falling y: right front of the patient.
    assert (picture.x, picture.y, picture.sizex, picture.sizey) == (0, 0, 27, 14)
    assert tuple(figure.layout.xaxis.range) == (0, 27) and tuple(figure.layout.yaxis.range) == (14, 0)
    assert figure.layout.yaxis.scaleanchor == "x"
    letters = {annotation.text: annotation.x for annotation in figure.layout.annotations}
    assert letters["<b>R</b>"] == 0 and letters["<b>L</b>"] == 27
    assert "-12 mm" in letters and "5 cm" in letters and "mild, patient 1" in letters
    assert outline.source != picture.source


def test_a_missing_sequence_is_said() -> None:
    figure = slices.montage(
        {"T1W": [one_slice(), None], "T2W": [None, one_slice("severe, patient 2")]}, simulated=False
    )
    assert words(figure).count("no such scan") == 2
    assert {"mild, patient 1", "severe, patient 2"} <= set(words(figure))
    assert len(figure.layout.images) == 2


def prepared(folder: Path, patient: str, stage: str | None, sequence: str, *, with_mask: bool = True) -> PreparedScan:
    """7 slices of 8 x 9 pixels, 5 mm apart, 2 mm wide; the value of a voxel is the number of its slice."""
    folder.mkdir(parents=True)
    image = np.broadcast_to(np.arange(7, dtype=np.float16)[:, None, None], (7, 8, 9))
    np.save(folder / "image.npy", image)
    if with_mask:
        mask = np.zeros((7, 8, 9), dtype=bool)
        mask[2, 1:3, 1:3], mask[4, 1:6, 1:6] = True, True
        np.save(folder / "mask.npy", mask)
    # Slices towards the head (z), rows towards the back (-y), columns towards the left (-x).
    affine = np.array([[0, 0, -2, 10], [0, -2, 0, 20], [5, 0, 0, -30], [0, 0, 0, 1]])
    grid = Grid((7, 8, 9), affine)
    return PreparedScan(Scan(patient, sequence, Path("x"), stage=stage), folder, grid, grid, PreparationSettings())


def test_the_slice_shown_is_where_the_liver_is_widest(tmp_path: Path) -> None:
    shown = slices.widest_slice(prepared(tmp_path / "a", "1", "mild", "T1W"), "a label")
    assert (shown.pixels == 4).all() and shown.pixels.shape == (8, 9)
    assert (shown.position, shown.spacing, shown.label) == (-10.0, (2.0, 2.0), "a label")
    assert shown.mask is not None and shown.mask.sum() == 25
    without = slices.widest_slice(prepared(tmp_path / "b", "1", "mild", "T1W", with_mask=False))
    assert (without.pixels == 3).all() and without.mask is None


def test_examples_are_one_patient_of_each_stage_with_the_most_sequences(tmp_path: Path) -> None:
    scans = [
        Bag({"T1W": prepared(tmp_path / "a", "1", "severe", "T1W")}),
        Bag({name: prepared(tmp_path / f"b{name}", "2", "mild", name) for name in ("T1W", "T2W")}),
        Bag({"T2W": prepared(tmp_path / "c", "3", "mild", "T2W")}),
    ]
    rows = slices.examples(scans)
    labels = {name: [one and one.label for one in row] for name, row in rows.items()}
    assert labels == {"T1W": ["mild, patient 2", "severe, patient 1"], "T2W": ["mild, patient 2", None]}
    assert [len(row) for row in slices.examples(scans, per_stage=2).values()] == [3, 3]
    unstaged = [Bag({"T1W": prepared(tmp_path / "d", "4", None, "T1W")})]
    assert [[one.label for one in row] for row in slices.examples(unstaged).values()] == [["no stage, patient 4"]]
    assert len(slices.examples([*unstaged, *scans])["T1W"]) == 2, "who has a stage comes first"


@pytest.mark.parametrize("rows", [{}, {"T1W": []}, {"T1W": [one_slice()], "T2W": []}])
def test_a_montage_of_nothing_is_refused(rows: dict) -> None:
    with pytest.raises(ValueError, match="one and the same length"):
        slices.montage(rows, simulated=True)


def test_the_learning_curve_leaves_out_who_nobody_validated() -> None:
    assert len(learning_curve(HISTORY, simulated=True).data) == 4
    alone = learning_curve(HISTORY.assign(valid_loss=np.nan, valid_kappa=np.nan), simulated=True)
    assert [trace.name for trace in alone.data] == ["training patients", "training patients"]
    assert list(alone.data[0].y) == [1.1, 0.9]
    assert learning_curve(HISTORY, simulated=True).layout.yaxis2.range[0] < -0.3


def test_the_confusion_matrix_gives_counts_and_shares_of_the_row() -> None:
    figure = evaluation.confusion_matrix([[3, 1, 0], [0, 0, 0], [0, 2, 6]], simulated=True)
    heatmap = figure.data[0]
    assert heatmap.z.tolist() == [[75, 25, 0], [0, 0, 0], [0, 25, 75]]
    assert heatmap.text[0][0] == "<b>3</b><br>75 %" and heatmap.text[1][0] == ""
    assert list(heatmap.y) == ["mild<br>n = 4", "moderate<br>n = 0", "severe<br>n = 8"]
    assert figure.layout.yaxis.autorange == "reversed"
    with pytest.raises(ValueError, match="3 stages"):
        evaluation.confusion_matrix(np.eye(2), simulated=True)


def test_the_forest_shows_headline_metrics_with_chance_and_majority() -> None:
    chance, majority, stager = evaluation.metric_forest(METRICS, simulated=True).data
    assert list(stager.y) == ["quadratic weighted kappa", "accuracy"]  # undefined and stage-valued ones are left out
    assert list(stager.text) == ["0.50 (0.20 to 0.80)", "0.60 (0.30 to 0.80)"]
    assert list(stager.error_x.array) == pytest.approx([0.3, 0.2])
    assert list(stager.error_x.arrayminus) == pytest.approx([0.3, 0.3])
    assert list(chance.x) == pytest.approx([0, 1 / 3]) and list(majority.x) == [0, 0.5]


def test_the_metric_table_says_what_is_not_defined() -> None:
    table = evaluation.metric_table(METRICS)
    assert table["value (95 % interval)"].to_list() == [
        "0.50 (0.20 to 0.80)",
        "0.60 (0.30 to 0.80)",
        "not defined",
        "0.40 (no interval)",
    ]
    assert table["chance"].to_list() == ["0.00", "0.33", "", "0.90"]
    assert table["better is"].to_list() == ["higher", "higher", "higher", "lower"]


def test_mistakes_are_listed_worst_first() -> None:
    predictions = pd.DataFrame(
        [
            ("a/1", "mild", "mild", 0.9, 0.1, 0.0, "T1W"),
            ("a/2", "mild", "moderate", 0.1, 0.8, 0.1, "T1W"),
            ("a/3", "severe", "mild", 0.5, 0.2, 0.3, "T2W"),
            ("a/4", "moderate", "severe", 0.0, 0.1, 0.9, "T1W+T2W"),
            ("a/5", None, "mild", 0.9, 0.1, 0.0, "T1W"),
            ("a/6", "mild", None, np.nan, np.nan, np.nan, ""),
        ],
        columns=["subject", "stage", "predicted", "mild", "moderate", "severe", "sequences"],
    )
    table = evaluation.mistaken_patients(predictions)
    assert list(table.index) == ["a/3", "a/4", "a/2"]
    assert table["off by"].to_list() == [2, 1, 1]
    assert table.loc["a/3", "p(severe)"] == 0.3
    assert evaluation.mistaken_patients(predictions.iloc[:1]).empty


@pytest.mark.parametrize(
    ("told", "banner"),
    [
        ((True, True), "Simulated cohort: nothing here"),
        ((False, True), "The model learnt from simulated patients"),
        ((False, False), ""),
    ],
)
def test_a_notice_tells_the_page(told: tuple[bool, bool], banner: str) -> None:
    """Real scans are never called simulated, whatever the model learnt from."""
    bundle = Notice(*told)._repr_mimebundle_()
    assert bundle[NOTICE]["banner"].startswith(banner) and bool(bundle[NOTICE]["banner"]) == bool(banner)
    assert bundle["text/plain"].startswith(banner or "Research and education only")
