"""A simulated cohort on disk: layout, truth, twins, evidence, repeatability."""

import csv
import json
import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from other_processes import held_by_another
from PIL import Image
from scipy.stats import mannwhitneyu

from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputError
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.simulation.cohort import SIMULATOR_VERSION, simulate_cohort, stored_request
from cirrnb.simulation.gallery import real_panels, simulated_panels
from cirrnb.simulation.patients import draw_latent, draw_patient, plan
from cirrnb.simulation.populations import INDEPENDENT
from cirrnb.simulation.scans import scanner, simulate_scan
from cirrnb.simulation.signs import CHANNELS, NO_SIGN, SIGNS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "cohort"
    simulate_cohort(out, patients=6, seed=4, scale="tiny", healthy=2, twins=True, workers=2, progress=False)
    return out


REFERENCE = Path(__file__).with_name("simulated_reference.json")
"""Two patients as version 1.1 simulates them: means of blocks of pixels, and sizes of masks, evidence and organs."""


def content(root):
    """What a cohort holds, coarse enough not to feel another processor's last bit and fine enough to feel all else."""
    held = {}
    for scan in read_cohort(root).scans:
        image = voxels(scan.image)
        edges = [np.arange(0, size, 6) for size in image.shape[:2]]
        sums = np.add.reduceat(np.add.reduceat(image.astype(float), edges[0], axis=0), edges[1], axis=1)
        held[scan.name] = {
            "image": np.round(sums[:: max(1, len(sums) // 6), :: max(1, sums.shape[1] // 6)] / 36, 2).tolist(),
            **{
                kind: np.bincount(voxels(path).ravel(), minlength=13).tolist()
                for kind, path in (
                    ("mask", scan.mask),
                    ("evidence", root / "evidence" / scan.source / scan.sequence / scan.image.name),
                    ("organs", root / "organs" / scan.source / scan.sequence / scan.image.name),
                )
            },
        }
    return held


def test_content_belongs_to_the_version(tmp_path):
    root = tmp_path / "cohort"
    simulate_cohort(root, patients=2, seed=7, scale="tiny", healthy=0, organs=True, workers=1, progress=False)
    reference = json.loads(REFERENCE.read_text())
    now = content(root)
    assert reference["version"] == SIMULATOR_VERSION and now.keys() == reference["scans"].keys()
    advice = "The content changed: raise SIMULATOR_VERSION, write the reference anew, rerun what quotes figures."
    for name, scan in reference["scans"].items():
        assert np.abs(np.array(scan["image"]) - now[name]["image"]).max() <= 0.2, (name, advice)
        for kind in ("mask", "evidence", "organs"):
            assert np.abs(np.array(scan[kind]) - now[name][kind]).max() <= 3, (name, kind, advice)


def test_a_cohort_with_the_hash_of_older_versions_is_still_the_cohort(tmp_path):
    root = tmp_path / "cohort"
    arguments = {"patients": 1, "seed": 7, "scale": "tiny", "healthy": 0, "workers": 1, "progress": False}
    simulate_cohort(root, **arguments)
    mark = root / "SIMULATED.txt"
    text = mark.read_text()
    mark.write_text(text.replace('"version"', '"source": "1dbd2c22fb970a39",\n "version"'))
    assert simulate_cohort(root, **arguments).simulated
    SimulatedTruth(root)
    mark.write_text(text.replace(f'"{SIMULATOR_VERSION}"', '"0.9"'))
    assert read_cohort(root).simulated
    for refused in (lambda: simulate_cohort(root, **arguments), lambda: SimulatedTruth(root)):
        with pytest.raises(InputError) as caught:
            refused()
        assert Path(caught.value.where) == root


def voxels(path):
    return np.asarray(nib.load(path).dataobj)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_layout_is_read_back_without_a_remark(root):
    cohort = read_cohort(root)
    assert cohort.simulated and cohort.problems == ()
    people = cohort.patients
    assert set(people.source) == {"cirrhotic", "healthy"}
    assert (root / "SIMULATED.txt").read_text().startswith("These images are SIMULATED")
    assert SIMULATOR_VERSION in (root / "SIMULATED.txt").read_text()
    ill = people[people.source == "cirrhotic"]
    assert set(ill.stage) <= {"mild", "moderate", "severe"} and ill.stage.notna().all()
    truth = pd.read_csv(root / "latent.csv").set_index("subject")
    assert (truth.loc[ill.index].stage == ill.stage).all()
    assert (truth.loc[people.index].age == people.age).all()


def test_tables_have_exactly_the_published_columns(root):
    for path in (root / "Metadata").glob("*evaluation.csv"):
        with path.open(newline="") as file:
            assert next(csv.reader(file)) == ["Patient ID", "Age", "Gender", "Radiological Evaluation"]
    assert (root / "Metadata" / "Healthy_demographics.csv").read_text().splitlines()[0] == "ID,Age,Gender"
    assert len(list((root / "Metadata").glob("*.csv"))) == 5


def test_files_are_stored_to_the_left_back_and_head(root):
    for scan in read_cohort(root).scans:
        image, mask = nib.load(scan.image), nib.load(scan.mask)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        assert image.shape == mask.shape and np.array_equal(image.affine, mask.affine)
        assert image.get_data_dtype() == (np.uint16 if scan.source == "healthy" else np.int16)
        assert set(np.unique(voxels(scan.mask))) == {0, 1}
        assert voxels(scan.image).min() >= 0 and voxels(scan.image).max() > 500


def test_liver_lies_within_the_scan_on_the_patients_right_with_its_volume(root):
    truth = pd.read_csv(root / "latent.csv").set_index("subject")
    for scan in read_cohort(root).scans:
        mask = voxels(scan.mask).astype(bool)
        assert not mask[:, :, 0].any() and not mask[:, :, -1].any()
        stored = nib.load(scan.mask)
        centre = nib.affines.apply_affine(stored.affine, np.argwhere(mask).mean(axis=0))
        assert centre[0] > 15  # RAS+: the patient's right is positive in LPS storage read as -x
        volume = mask.sum() * np.prod(stored.header.get_zooms()) / 1000
        assert volume == pytest.approx(truth.loc[scan.subject].liver_volume_ml, rel=0.08)


def test_evidence_is_where_the_scan_differs_from_its_twin(root):
    truth = pd.read_csv(root / "latent.csv").set_index("subject")
    for scan in read_cohort(root).select(source="cirrhotic").scans:
        name = f"{scan.sequence}/{scan.patient}.nii.gz"
        evidence = voxels(root / "evidence" / "cirrhotic" / name)
        image, twin = voxels(scan.image).astype(float), voxels(root / "twins" / "severity_zero" / name).astype(float)
        assert evidence.max() <= len(SIGNS)
        # Both bear the same noise: what is not evidence is the same but for what is too weak to count.
        weak = np.abs(image - twin)[evidence == 0].mean()
        liver = np.median(image[voxels(scan.mask) > 0])
        assert weak < 0.02 * liver
        if evidence.any():
            assert np.abs(image - twin)[evidence > 0].mean() > 0.06 * liver
        hidden = [s for s in SIGNS if s != "nodules" and truth.loc[scan.subject][f"shown_{s}"] == 0]
        assert not np.isin(evidence, [SIGNS.index(sign) + 1 for sign in hidden]).any()


def test_healthy_subjects_have_no_evidence(root):
    for path in (root / "evidence" / "healthy").rglob("*.nii.gz"):
        assert not voxels(path).any()


def test_pairs_that_differ_in_one_sign_exist(root):
    kinds = {path.name for path in (root / "twins").iterdir()}
    assert kinds == {"severity_zero", *(f"without_{sign}" for sign in SIGNS[:6])}


def test_bytes_depend_on_the_seed_and_on_nothing_else(root, tmp_path):
    again = tmp_path / "again"
    simulate_cohort(again, patients=6, seed=4, scale="tiny", healthy=2, twins=True, workers=1, progress=False)
    assert contents(again) == contents(root)


def test_a_patient_is_the_same_whatever_the_number_of_patients(root, tmp_path):
    fewer, other = tmp_path / "fewer", tmp_path / "other"
    simulate_cohort(fewer, patients=1, seed=4, scale="tiny", healthy=0, workers=1, progress=False)
    simulate_cohort(other, patients=1, seed=5, scale="tiny", healthy=0, workers=1, progress=False)
    for path in (fewer / "Cirrhosis_T2_3D").rglob("*.nii.gz"):
        assert path.read_bytes() == (root / path.relative_to(fewer)).read_bytes()
        assert path.read_bytes() != (other / path.relative_to(fewer)).read_bytes()


def test_small_patients_do_not_depend_on_their_number():
    few, many = plan("small", 5, 0, seed=9), plan("small", 30, 0, seed=9)
    assert [one.patient for one in few] == [one.patient for one in many[:5]]
    splits = {one.patient: one.splits["T1W"] for one in many}
    assert [splits[patient] for patient in sorted(splits)] == ["train"] * 24 + ["valid"] * 3 + ["test"] * 3


def test_interrupted_simulation_goes_on_and_a_full_folder_is_refused(tmp_path, monkeypatch):
    from cirrnb.simulation import cohort

    out = tmp_path / "cohort"
    done = []

    def stop_after_one(job, simulate=cohort.simulate_patient):
        if done:
            raise KeyboardInterrupt
        done.append(job["plan"]["patient"])
        simulate(job)

    monkeypatch.setattr(cohort, "simulate_patient", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        simulate_cohort(out, patients=2, scale="tiny", healthy=0, workers=1, progress=False)
    assert not out.exists()
    (tmp_path / "cohort.unfinished" / "Metadata").mkdir(exist_ok=True)
    (tmp_path / "cohort.unfinished" / "Metadata" / ".writing-1-a.csv").write_text("as a kill leaves it")
    monkeypatch.undo()
    with pytest.raises(InputError, match="another simulation"):
        simulate_cohort(out, patients=2, seed=1, scale="tiny", healthy=0, workers=1, progress=False)
    again = []
    simulate = cohort.simulate_patient
    monkeypatch.setattr(cohort, "simulate_patient", lambda job: (again.append(job["plan"]["patient"]), simulate(job)))
    assert len(simulate_cohort(out, patients=2, scale="tiny", healthy=0, workers=1, progress=False).patients) == 2
    assert again and done[0] not in again
    with pytest.raises(InputError, match="not empty"):
        simulate_cohort(out, patients=1, scale="tiny", healthy=0, workers=1, progress=False)
    assert not (tmp_path / "cohort.unfinished").exists() and not list(tmp_path.rglob(".*"))


def test_a_simulation_under_way_is_refused_and_its_result_returned(tmp_path, monkeypatch):
    from cirrnb.simulation import cohort

    out = tmp_path / "cohort"
    with held_by_another("claimed", out), pytest.raises(InputError) as raised:
        simulate_cohort(out, patients=1, scale="tiny", healthy=0, workers=1, progress=False)
    assert raised.value.where == str(out) and not list(tmp_path.glob("cohort*"))
    request = {"patients": 1, "scale": "tiny", "healthy": 0, "workers": 1, "progress": False}
    simulate_cohort(tmp_path / "other", **request)

    @contextmanager
    def completed_by_another(path):
        (tmp_path / "other").rename(path)
        yield

    monkeypatch.setattr(cohort, "claimed", completed_by_another)
    monkeypatch.setattr(cohort, "_simulate", lambda *_: pytest.fail("simulated twice"))
    assert len(simulate_cohort(out, **request).patients) == 1


def test_a_file_is_no_simulated_cohort(tmp_path):
    (tmp_path / "scans.csv").write_text("patient,sequence,image\n")
    with pytest.raises(InputError) as raised:
        simulate_cohort(tmp_path / "scans.csv", patients=1, progress=False)
    assert raised.value.where == str(tmp_path / "scans.csv")


@pytest.mark.parametrize("wrong", [{"scale": "huge"}, {"shortcut": "age"}, {"patients": 0}, {"healthy": -1}])
def test_arguments_are_judged_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(InputError):
        simulate_cohort(tmp_path / "cohort", progress=False, **wrong)
    assert not any(tmp_path.iterdir())


def test_scanner_tells_the_stage_only_with_the_shortcut_and_only_in_training():
    patients = [SimpleNamespace(plan=one, stage=one.stage) for one in plan("full", None, 0, seed=2)]
    severe = np.array([patient.stage == "severe" for patient in patients])
    mild = np.array([patient.stage == "mild" for patient in patients])
    train = np.array(["train" in patient.plan.splits.values() for patient in patients])
    free, tied = (np.array([scanner(p, 2, s) == "B" for p in patients]) for s in (None, "scanner"))
    assert abs(free[severe].mean() - free[mild].mean()) < 0.3
    assert tied[severe & train].mean() - tied[mild & train].mean() > 0.7
    assert np.array_equal(tied[~train], free[~train])


def test_age_sex_and_liver_volume_hardly_tell_the_stage():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    patients = [draw_patient(one, 3) for one in plan("small", 120, 0, seed=3)]
    known = np.array([(p.age, p.sex == "male", p.liver_volume) for p in patients], float)
    known = (known - known.mean(axis=0)) / known.std(axis=0)
    stages = [patient.stage for patient in patients]
    assert cross_val_score(LogisticRegression(), known, stages, cv=5).mean() < 0.52
    volumes = {stage: np.median([p.liver_volume for p in patients if p.stage == stage]) for stage in set(stages)}
    assert 1150 < volumes["mild"] < 1750 and 850 < volumes["severe"] < 1500


def test_full_scale_has_published_matrices():
    from cirrnb.simulation.published import GEOMETRY
    from cirrnb.simulation.scans import draw_sampling

    patient = draw_patient(plan("full", 1, 0, seed=0)[0], 0)
    seen = {draw_sampling(np.random.default_rng(i), patient.body, "T2W", "full").matrix for i in range(40)}
    assert seen <= {matrix for matrix, _ in GEOMETRY["T2W"]} and len(seen) > 8


def test_gallery_sets_slices_upright(root):
    panels = simulated_panels(root, patients=1, shares=(0.5,))
    assert all(panel.title.startswith("simulated") for panel in panels)
    for panel in panels:
        assert panel.mask is not None and panel.image.shape == panel.mask.shape
        columns = np.flatnonzero(panel.mask.any(axis=0))
        assert columns.mean() < panel.mask.shape[1] / 2  # the liver on the viewer's left


@pytest.mark.parametrize("change", [Path.unlink, lambda mask: nib.save(_empty(mask), mask)], ids=["gone", "empty"])
def test_a_gallery_needs_masks(change, tmp_path):
    simulate_cohort(tmp_path / "own", patients=1, seed=4, scale="tiny", healthy=0, workers=1, progress=False)
    mask = next(scan.mask for scan in read_cohort(tmp_path / "own").scans)
    change(mask)
    with pytest.raises(InputError) as raised:
        simulated_panels(tmp_path / "own", shares=(0.5,))
    assert mask.name in raised.value.where


def _empty(mask):
    drawn = nib.load(mask)
    return nib.Nifti1Image(np.zeros(drawn.shape, np.uint8), drawn.affine)


def real_folder():
    folder = os.environ.get("CIRRNB_EXTERNAL_DATA")
    if not folder:
        pytest.skip("CIRRNB_EXTERNAL_DATA is not set")
    return Path(folder)


REGIONS = {"spleen": (191, 290), "marrow": (200, 191), "stomach content": (142, 255), "fat": (258, 203)}
"""Row and column of tissues on the real slice of patient 47, picked by eye."""


@pytest.mark.real
def test_simulated_contrasts_and_noise_enclose_those_of_a_real_slice():
    from cirrnb.simulation.signal import draw_protocol, tissue_signals

    slices = real_folder() / "cirrmri600" / "slices"
    image = np.asarray(Image.open(slices / "id47_stage1_train.png").convert("L")).T.astype(float)
    liver = np.median(image[np.asarray(Image.open(slices / "id47_stage1_train_mask.png").convert("L")).T > 127])
    random = np.random.default_rng(0)
    protocols = [p for p in (draw_protocol(random, "T2W", "1.5 T") for _ in range(400)) if p.fat_kept == 1]
    for tissue, (row, column) in REGIONS.items():
        measured = image[row - 3 : row + 4, column - 3 : column + 4].mean() / liver
        ratios = [signals[tissue] / signals["liver"] for signals in map(tissue_signals, protocols)]
        assert 0.8 * min(ratios) < measured < 1.25 * max(ratios), (tissue, measured, min(ratios), max(ratios))
    assert len(real_panels(slices)) == 4


@pytest.mark.real
def test_noise_within_the_liver_is_like_that_of_real_slices():
    from scipy.ndimage import binary_erosion, gaussian_filter

    def noise(image, mask):
        inside = binary_erosion(mask, iterations=4)
        rough = (image - gaussian_filter(image, 2.5))[inside]
        return 1.4826 * np.median(np.abs(rough)) / np.median(image[inside])

    real = []
    for panel_file in ("id47_stage1_train", "id378_stage3_train"):
        folder = real_folder() / "cirrmri600" / "slices"
        image = np.asarray(Image.open(folder / f"{panel_file}.png").convert("L")).T.astype(float)
        real.append(noise(image, np.asarray(Image.open(folder / f"{panel_file}_mask.png").convert("L")).T > 127))
    found = []
    for one in plan("small", 3, 0, seed=0):
        made = simulate_scan(draw_patient(one, 0), "T2W", 0, "small", "A", False)
        middle = int(np.argmax(made.mask.sum(axis=(0, 1))))
        found.append(noise(made.image[:, :, middle].astype(float), made.mask[:, :, middle] > 0))
    assert 0.4 * min(real) < np.median(found) < 2 * max(real), (real, found)


def test_signs_of_an_independent_population_do_not_follow_severity(tmp_path):
    out = tmp_path / "cohort"
    simulate_cohort(out, 3, 5, "tiny", healthy=0, workers=1, progress=False, population="independent")
    again = simulate_cohort(out, 3, 5, "tiny", healthy=0, workers=1, progress=False, population="independent")
    assert len(again.patients) == 3
    request = stored_request(out)
    assert request["population"]["name"] == "independent" and set(request["population"]["follows"].values()) == {0.0}
    drawn = [draw_latent(one, 5, INDEPENDENT) for one in plan("small", 300, 0, 5)]
    severity = [one.severity for one in drawn]
    for channel in CHANNELS:
        assert abs(np.corrcoef(severity, [one.channels[channel.name] for one in drawn])[0, 1]) < 0.2
    with pytest.raises(InputError, match="cohort"):  # the benchmark's patients are others
        simulate_cohort(out, 3, 5, "tiny", healthy=0, workers=1, progress=False)


def test_healthy_subjects_have_the_volumes_of_patients_without_signs():
    """Else a liver's size alone would tell the healthy from the mild."""
    places = plan("small", 600, 55, 3)
    latents = [(place, draw_latent(place, 3)) for place in places]
    plain = [draw_patient(place, 3) for place, latent in latents if latent and max(latent.shown.values()) < NO_SIGN]
    well = [draw_patient(place, 3) for place in places if place.source == "healthy"]
    assert len(plain) > 30 and len(well) == 55
    assert all(one.latent and max(one.latent.shown.values()) < NO_SIGN for one in plain)
    for volume in ("liver_volume", "spleen_volume"):
        apart = mannwhitneyu([getattr(one, volume) for one in plain], [getattr(one, volume) for one in well])
        assert apart.pvalue > 0.01, volume
    assert any(draw_patient(one.plan, 3, healthy_law=1).liver_volume != one.liver_volume for one in well)
    assert not any(value for one in well for value in one.body.shown.values())


def test_cohorts_with_healthy_subjects_of_before_keep_their_law(tmp_path):
    """The file of their request names none; the subjects that are drawn again from it are the same."""
    healthy = next(one for one in plan("tiny", 1, 1, 0) if one.source == "healthy")
    laws = ((seed, draw_patient(healthy, seed, healthy_law=1), draw_patient(healthy, seed)) for seed in range(100))
    seed, first, second = next(one for one in laws if one[1].liver_volume != one[2].liver_volume)
    out = tmp_path / "cohort"
    simulate_cohort(out, 1, seed, "tiny", healthy=1, workers=1, progress=False)
    subject = f"healthy/{healthy.patient}"
    assert stored_request(out)["healthy_law"] == 2
    assert SimulatedTruth(out).patient(subject).liver_volume == second.liver_volume
    mark = out / "SIMULATED.txt"
    mark.write_text(mark.read_text().replace(' "healthy_law": 2,\n', ""))
    assert "healthy_law" not in stored_request(out)
    assert SimulatedTruth(out).patient(subject).liver_volume == first.liver_volume


@pytest.mark.parametrize(("shortcut", "healthy", "ill"), [("healthy-a", "A", "B"), ("healthy-b", "B", "A")])
def test_healthy_subjects_may_come_from_a_scanner_of_their_own(shortcut, healthy, ill):
    drawn = [draw_patient(one, 3) for one in plan("small", 6, 4, 3)]
    for patient in drawn:
        assert scanner(patient, 3, shortcut) == (healthy if patient.plan.source == "healthy" else ill)
