"""Signs planted into a scan of a healthy liver: each grows with its strength, and nothing else changes."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from cirrnb.cli import main
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.nifti.saving import save_volume
from cirrnb.measure.shape_and_signal import heterogeneity, nodularity
from cirrnb.segmentation.planted_scans import plant_file
from cirrnb.simulation.cohort import simulate_cohort
from cirrnb.simulation.planting import PLANTED, plant
from cirrnb.simulation.signs import SIGNS

SPACING = (5.0, 2.0, 2.0)
SHAPE = (26, 120, 150)
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def ball(centre, radii):
    places = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SPACING, strict=True)), indexing="ij")
    return sum(((p - c) / r) ** 2 for p, c, r in zip(places, centre, radii, strict=True)) < 1


@pytest.fixture(scope="module")
def scan():
    """A liver, a spleen and fat in a body of water and noise."""
    random = np.random.default_rng(0)
    body, liver = ball((65, 120, 150), (500, 112, 142)), ball((65, 110, 105), (48, 62, 74))
    spleen = ball((75, 130, 225), (30, 24, 30)) & ~liver
    image = 40.0 * body + 60.0 * liver + 30 * spleen
    return image + random.normal(0, 3, SHAPE) * body + 3, liver, spleen, body


def planted(scan, sequence="T1W", seed=0, **strengths):
    image, liver, spleen, body = scan
    return plant(image, liver, spleen, body, SPACING, sequence, strengths, seed)


def grid():
    return Grid(SHAPE, np.diag((*SPACING, 1.0)))


def measured(scan, sign, measure, sequence="T1W"):
    return [measure(planted(scan, sequence, **{sign: strength})) for strength in STRENGTHS]


def test_nothing_planted_is_the_scan_itself(scan):
    found = planted(scan, nodularity=0.0)
    np.testing.assert_array_equal(found.image, scan[0].astype(np.float32))
    assert not found.evidence.any() and found.strengths == dict.fromkeys(PLANTED, 0.0)
    np.testing.assert_array_equal(found.liver, scan[1])


def test_the_surface_becomes_nodular_and_the_volume_stays(scan):
    rising = measured(scan, "nodularity", lambda one: nodularity(one.liver, grid()))
    assert (np.diff(rising) > 0).all() and rising[-1] > 2 * rising[0]
    volumes = measured(scan, "nodularity", lambda one: one.liver.sum())
    assert max(volumes) < 1.06 * min(volumes)


@pytest.mark.parametrize("sequence", ["T1W", "T2W"])
def test_texture_becomes_uneven(scan, sequence):
    rising = measured(scan, "nodules", lambda one: heterogeneity(one.image, one.liver, grid()), sequence)
    assert (np.diff(rising) > 0).all() and rising[-1] > 1.5 * rising[0]


def test_the_right_lobe_shrinks_and_the_left_one_grows(scan):
    def shares(one):
        columns = np.flatnonzero(one.liver.any(axis=(0, 1)))
        hilum = 0.62 * (210 - 62) + 32
        return columns[0] * 2, columns[-1] * 2, hilum

    lows, highs = zip(*(shares(planted(scan, lobes=strength))[:2] for strength in STRENGTHS), strict=True)
    assert (np.diff(lows) >= 0).all() and lows[-1] >= lows[0] + 10, "the right edge moves to the left"
    assert (np.diff(highs) >= 0).all() and highs[-1] >= highs[0] + 6, "the left lobe reaches further"


def test_the_spleen_grows_by_the_law_of_simulated_patients(scan):
    volumes = np.array(measured(scan, "spleen", lambda one: one.spleen.sum()), float)
    np.testing.assert_allclose(volumes / volumes[0], np.exp(1.25 * np.array(STRENGTHS)), rtol=0.12)
    liver = measured(scan, "spleen", lambda one: one.liver.sum())
    assert min(liver) > 0.7 * max(liver), "the liver is pressed, not eaten"


@pytest.mark.parametrize(("sequence", "brighter"), [("T1W", False), ("T2W", True)])
def test_fluid_lies_around_the_organs_within_the_cavity(scan, sequence, brighter):
    image, liver, spleen, body = scan
    amounts = measured(scan, "ascites", lambda one: (one.evidence == SIGNS.index("ascites") + 1).sum(), sequence)
    assert amounts[0] == 0 and spearmanr(amounts, STRENGTHS).statistic > 0.99
    found = planted(scan, sequence, ascites=1.0)
    there = found.evidence > 0
    assert (found.image[there].mean() > image[there].mean()) == brighter
    np.testing.assert_array_equal(found.image[liver | spleen], image.astype(np.float32)[liver | spleen])
    outer = body & ~ball((65, 120, 150), (480, 92, 122))
    assert there[outer].mean() < 0.02, "no fluid in the wall"


def test_evidence_names_the_sign_and_places_repeat(scan):
    both = planted(scan, nodules=0.8, ascites=0.8)
    assert set(np.unique(both.evidence)) == {0, SIGNS.index("nodules") + 1, SIGNS.index("ascites") + 1}
    again, other = planted(scan, nodules=0.8, ascites=0.8), planted(scan, seed=1, nodules=0.8, ascites=0.8)
    np.testing.assert_array_equal(both.image, again.image)
    assert not np.array_equal(both.image, other.image)
    weak, strong = (planted(scan, nodularity=strength).image - scan[0] for strength in (0.4, 0.8))
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.7, "the same nodules, higher"


def test_without_a_spleen_none_is_planted(scan):
    image, liver, spleen, body = scan
    found = plant(image, liver, np.zeros_like(spleen), body, SPACING, "T1W", {"spleen": 1.0})
    np.testing.assert_array_equal(found.image, image.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strengths": {"fossa": 0.5}}, "fossa"),
        ({"strengths": {"lobes": 1.5}}, "1.5"),
        ({"strengths": {"lobes": float("nan")}}, "nan"),
        ({"sequence": "DWI"}, "DWI"),
    ],
)
def test_wrong_requests(scan, change, words):
    image, liver, spleen, body = scan
    given = {"sequence": "T1W", "strengths": {}} | change
    with pytest.raises(InputError, match=words):
        plant(image, liver, spleen, body, SPACING, **given)
    with pytest.raises(InputError, match="empty mask"):
        plant(image, liver & False, spleen, body, SPACING, "T1W", {})
    with pytest.raises(InputError, match="other shapes"):
        plant(image, liver[1:], spleen, body, SPACING, "T1W", {})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    out = tmp_path_factory.mktemp("cohort") / "home"
    simulate_cohort(out, 1, 2, "small", workers=1, progress=False)
    return next(out.rglob("Cirrhosis_T2_3D/*images/*.nii.gz"))


def test_a_planted_file_is_a_cohort_that_says_what_it_is(home, tmp_path):
    table = plant_file(home, tmp_path / "out", "T2W", {"nodules": 0.7, "ascites": 1.0})
    cohort = read_cohort(table)
    assert cohort.simulated and [scan.sequence for scan in cohort.scans] == ["T2W"]
    (before, grid), (after, same) = read_volume(home), read_volume(cohort.scans[0].image)
    assert same == grid and not np.array_equal(before, after)
    evidence, _ = read_volume(table.parent / "planted_T2W_evidence.nii.gz")
    assert set(np.unique(evidence)) <= {0, SIGNS.index("nodules") + 1, SIGNS.index("ascites") + 1}
    unchanged = evidence == 0
    level = np.median(before[read_mask(cohort.scans[0].mask, grid)])
    assert np.abs(after - before)[unchanged].max() < 0.13 * level, "two signs, each too weak to be seen"
    stored = json.loads((table.parent / "strengths.json").read_text())
    assert stored["strengths"]["ascites"] == 1.0 and stored["strengths"]["spleen"] == 0.0
    assert "/" not in json.dumps(stored["segmented by"]) and str(home) not in (table.read_text())


def test_a_scan_without_a_liver_is_refused(home, tmp_path):
    volume, grid = read_volume(home)
    path = save_volume(tmp_path / "noise.nii.gz", np.random.default_rng(0).random(volume.shape, np.float32), grid)
    with pytest.raises(InputError, match="mL of liver"):
        plant_file(path, tmp_path / "out", "T2W", {"ascites": 1.0})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("signs", ["ascites", "ascites=much", "fossa=0.5", "ascites=2"])
def test_the_command_refuses_what_is_no_strength(home, monkeypatch, capsys, tmp_path, signs):
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["cirrnb", "plant", str(home), str(out), "--sequence", "T2W", "--signs", signs])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and signs[:4] in capsys.readouterr().err and not out.exists()
