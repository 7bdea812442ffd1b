"""The published 2D layout: a table of PNG slices with the patients' stages."""

import pytest
from published_tree import COMPLETE, Quirks, Tree

from cirrnb.data.errors import InputErrors
from cirrnb.data.layouts.slices import read_slices
from cirrnb.data.reading import read_cohort

ROWS = [["7", "61", "1", "2"], ["12", "45", "2", "3"]]


def write(root, split, patient, slices, masks=(), quirks=None):
    folder = Tree(root, quirks or Quirks()).folder("Cirrhosis_T2_2D") / split / patient
    for what, names in (("images", slices), ("masks", masks)):
        (folder / what).mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / what / name).touch()
    return folder


@pytest.mark.parametrize("quirks", [Quirks(), Quirks(frozenset(["Cirrhosis_T2_2D"]), metadata="", decimals=True)])
def test_slices_come_in_the_order_of_their_numbers_with_stage_and_mask(tmp_path, quirks):
    Tree(tmp_path, quirks).table(COMPLETE, ROWS)
    folder = write(tmp_path, "train", "7", ["s_10.png", "s_9.png", "._s_9.png", "notes.txt"], ["s_9.png"], quirks)
    write(tmp_path, "test", "12", ["1.png"], quirks=quirks)
    write(tmp_path, "valid", "5", ["1.png"], quirks=quirks)
    table = read_slices(tmp_path)
    assert list(table.subject) == ["cirrhotic/7", "cirrhotic/7", "cirrhotic/5", "cirrhotic/12"]
    assert list(table.image)[:2] == [folder / "images" / "s_9.png", folder / "images" / "s_10.png"]
    assert table["mask"][0] == folder / "masks" / "s_9.png" and table["mask"].isna().sum() == 3
    assert list(table["slice"]) == [0, 1, 0, 0]
    assert list(table.stage.fillna("-")) == ["moderate", "moderate", "-", "severe"]
    assert list(table.split) == ["train", "train", "valid", "test"]
    assert list(table.sex.fillna("-")) == ["female", "female", "-", "male"]


def test_a_patient_in_two_splits_and_a_mask_without_slice_are_told(tmp_path):
    Tree(tmp_path).table(COMPLETE, ROWS)
    write(tmp_path, "train", "7", ["1.png"], ["1.png", "2.png"])
    write(tmp_path, "test", "7", ["1.png"])
    with pytest.raises(InputErrors) as caught:
        read_slices(tmp_path)
    assert "patient 7 in" in str(caught.value) and "a mask without its slice" in str(caught.value)
    with pytest.warns(UserWarning):
        assert list(read_slices(tmp_path, on_problem="skip").split) == ["train"]


def test_a_reader_of_volumes_points_to_the_reader_of_slices(tmp_path):
    write(tmp_path, "train", "7", ["1.png"])
    with pytest.raises(InputErrors, match="read_slices"):
        read_cohort(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(InputErrors, match="no PNG slice"):
        read_slices(tmp_path)
