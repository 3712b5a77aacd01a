"""A project of the original DeepProfiler, unchanged, against the files that it wrote."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from command import command
from skimage.io import imread

from deepprofiler.imaging import illumination
from deepprofiler.learning.cell_store import CellStore
from deepprofiler.project.well_file import read_well


@pytest.fixture
def original(tmp_path, shared_data):
    """A copy of the original's inputs, and the folder of what the original made of them."""
    source = shared_data / "original_deepprofiler"
    root = tmp_path / "project"
    shutil.copytree(source / "inputs", root / "inputs")
    return root, source / "outputs"


def test_illumination_and_8_bit_copies_equal_the_originals(original):
    root, theirs = original
    answer = command(root, "--config", "prep.json", "prepare")
    assert answer.code == 0, answer.text
    assert "prepare.compression.implement" in answer.text
    reference = np.load(theirs / "intensities" / "P001" / "P001.npz")
    ours = illumination.load(root / "outputs" / "illumination" / "P001.h5")
    np.testing.assert_allclose(ours.function, reference["illum_correction_function"], rtol=0.01)
    near = total = 0
    for path in sorted((theirs / "compressed" / "images").rglob("*.png")):
        copy = root / "outputs" / "compressed" / path.relative_to(theirs / "compressed")
        difference = np.abs(imread(copy).astype(int) - imread(path).astype(int))
        near += int((difference <= 1).sum())
        total += difference.size
    assert total == 10 * 540 * 540
    assert near / total >= 0.999


def test_without_compression_nothing_is_corrected(original):
    root, _ = original
    answer = command(root, "--config", "effnet.json", "prepare")
    assert answer.code == 0, answer.text
    assert not (root / "outputs" / "compressed").exists()


def test_two_configs_must_be_told_apart(original):
    root, _ = original
    answer = command(root, "prepare")
    assert answer.code == 2
    assert "effnet.json" in answer.text
    assert "prep.json" in answer.text


def test_features_equal_the_originals(original):
    root, theirs = original
    shutil.copytree(theirs / "cpcnn/checkpoint", root / "outputs/cpcnn/checkpoint")
    answer = command(root, "--config", "effnet.json", "--exp", "cpcnn", "profile")
    assert answer.code == 0, answer.text
    assert "Cell_Painting_CNN_v1.hdf5 does not say how its crops were scaled" in answer.text
    folder = root / "outputs/cpcnn/features/P001"
    found = {path.stem: read_well(path).features for path in folder.glob("*.h5")}
    reference = {
        path.parent.name: np.load(path)["features"]
        for path in (theirs / "cpcnn/features/P001").glob("*/1.npz")
    }
    assert set(found) == set(reference) == {"A01", "A02"}
    ours, expected = (np.concatenate([x["A01"], x["A02"]]) for x in (found, reference))
    assert ours.shape == expected.shape == (60, 672)
    difference = np.abs(ours - expected) / expected.std(axis=0)
    assert np.median(difference) <= 1e-4
    assert (difference <= 1e-3).mean() >= 0.9
    cosine = (ours * expected).sum(1) / np.sqrt((ours**2).sum(1) * (expected**2).sum(1))
    assert cosine.min() >= 0.999


def test_single_cells_equal_the_originals(original):
    root, theirs = original
    answer = command(root, "--config", "effnet.json", "export-sc")
    assert answer.code == 0, answer.text
    store = CellStore([root / "outputs/single-cells/P001.h5"])
    assert store.size == 128
    crops, _, _ = store.gather(np.arange(len(store)))
    table = store.table
    compared = 0
    for path in (theirs / "single-cells/P001").rglob("*.png"):
        well = path.parent.parent.name
        x, y = (float(number) for number in path.stem.split("@")[1].split("x"))
        distance = np.hypot(table["x"] - x, table["y"] - y)
        row = np.flatnonzero((table["Metadata_Well"] == well) & (distance < 1e-3))
        assert len(row) == 1
        strip = np.moveaxis(crops[row[0]], -1, 1).reshape(128, -1)
        assert np.abs(strip.astype(int) - imread(path)).max() <= 1
        compared += 1
    assert compared == len(store) == 60
