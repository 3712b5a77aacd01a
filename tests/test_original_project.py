"""A project of the original DeepProfiler, unchanged, against the files that it wrote."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from command import command
from skimage.io import imread

from deepprofiler.imaging import illumination


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
