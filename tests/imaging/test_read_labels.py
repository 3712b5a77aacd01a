"""Label images of other programs: what is none is refused by name, objects are read as they are."""

from __future__ import annotations

from pathlib import Path

import imageio.v3
import numpy as np
import pytest
import tifffile

from deepprofiler.imaging.image_errors import ImageError
from deepprofiler.imaging.read import read_labels, write_labels

# Twelve squares of 10 × 10 pixels, numbered from 1.
LABELS = np.zeros((90, 120), np.uint16)
for _number in range(12):
    _y, _x = 30 * (_number // 4) + 10, 30 * (_number % 4) + 10
    LABELS[_y : _y + 10, _x : _x + 10] = _number + 1
CENTRES = np.where((np.indices(LABELS.shape) % 30 == 15).all(0), LABELS, 0)


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ((LABELS > 0).astype(np.uint8) * 255, "mask .* 0 and 255 .* 12 objects"),
        ((LABELS == 3).astype(np.uint8) * 255, "mask .* 0 and 255 .* 1 object;"),
        ((LABELS > 0).astype(np.uint16) * 65535, "mask .* 0 and 65535"),
        ((LABELS > 0).astype(np.uint8), "mask .* 0 and 1 .* 12 objects"),
        (LABELS > 0, "mask of 1 bit"),
        (CENTRES, "12 of 12 objects have one pixel"),
        (LABELS.astype(np.int32) - 1, "values from -1 to 11; the background must be 0"),
        (LABELS + 1, "without 0, of which 89% is 1"),
        (np.uint16(65535) - LABELS, "without 0, of which 89% is 65535"),
        ((LABELS / 65535).astype(np.float32), "fractions, as when .* 65535, from 0 to"),
        (LABELS * 1.5, "fractions from 0 to 18"),
    ],
)
def test_what_is_no_label_image(tmp_path: Path, stored: np.ndarray, says: str) -> None:
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, stored)
    with pytest.raises(ImageError, match=rf"labels\.tif: .*{says}") as error:
        read_labels(path)
    assert (error.value.path, error.value.problem) == (path, "labels")


def test_half_size(tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, LABELS[::2, ::2])
    with pytest.raises(ImageError, match="45 × 60 pixels, the site's images are 90 × 120"):
        read_labels(path, (90, 120))
    assert read_labels(path, (45, 60)).max() == 12


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.float32])
@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS * 20, np.where(LABELS == 3, 1, 0), 0 * LABELS],
    ids=["all", "with gaps", "one", "none"],
)
def test_objects_on_a_background_of_0(tmp_path: Path, labels: np.ndarray, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "labels.tif", labels.astype(dtype))
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.tif"), labels)


def test_cells_that_fill_the_field(tmp_path: Path) -> None:
    cells = np.indices(LABELS.shape) // 30
    tifffile.imwrite(tmp_path / "labels.tif", (1 + 4 * cells[0] + cells[1]).astype(np.uint8))
    assert np.unique(read_labels(tmp_path / "labels.tif")).tolist() == list(range(1, 13))


def test_what_the_program_wrote_is_kept(tmp_path: Path) -> None:
    parts = np.where(LABELS > 10, 1, 0)
    write_labels(tmp_path / "labels.tif", parts)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.tif"), parts)


def test_labels_drawn_by_hand(shared_data: Path) -> None:
    paths = sorted(shared_data.glob("*/**/*_labels.png"))
    assert len(paths) > 20
    for path in paths:
        np.testing.assert_array_equal(read_labels(path), imageio.v3.imread(path))
