"""Segmentation: against hand-made outlines, CellProfiler's nuclei and drawn disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from skimage.draw import disk

from deepprofiler.errors import PluginError
from deepprofiler.imaging.read import ImageFile, read_labels, read_site
from deepprofiler.imaging.segment import centers, otsu, segment
from deepprofiler.registry import SEGMENTERS, discover


def grey(path: Path) -> np.ndarray:
    return read_site([ImageFile(path)])[:, :, 0]


def matched_at_half(truth: np.ndarray, labels: np.ndarray) -> int:
    """Pairs of objects whose intersection over union is above 0.5 (a pair is then unique)."""
    pairs, common = np.unique(np.stack([truth.ravel(), labels.ravel()]), axis=1, return_counts=True)
    area_truth, area_labels = np.bincount(truth.ravel()), np.bincount(labels.ravel())
    union = area_truth[pairs[0]] + area_labels[pairs[1]] - common
    return int(np.sum((pairs > 0).all(axis=0) & (common > 0.5 * union)))


def matched_centres(truth: np.ndarray, located: np.ndarray, radius: float) -> int:
    """Greatest number of one-to-one pairs within ``radius`` pixels."""
    distance = np.linalg.norm(truth[:, None] - located[None], axis=2)
    near = distance <= radius
    rows, columns = linear_sum_assignment(near, maximize=True)
    return int(near[rows, columns].sum())


def nuclei(positions, radii, shape=(256, 256), level=1000.0, background=100.0) -> np.ndarray:
    image = np.full(shape, background)
    for position, radius in zip(positions, radii, strict=True):
        image[disk(position, radius, shape=shape)] = level
    noise = np.random.default_rng(0).normal(0, 10, shape)
    return np.rint(gaussian_filter(image, 1) + noise)


def test_hand_drawn_outlines(shared_data):
    matched = drawn = segmented = 0
    for path in sorted((shared_data / "dsb2018").glob("*_image.png")):
        truth = read_labels(path.with_name(path.name.replace("_image", "_labels")))
        ours = otsu(grey(path), border="keep")
        matched += matched_at_half(truth, ours)
        drawn += len(np.unique(truth)) - 1
        segmented += int(ours.max())
    assert drawn == 1585
    assert 2 * matched / (drawn + segmented) >= 0.80


def test_nuclei_of_cellprofiler(shared_data):
    folder = shared_data / "jump_site"
    table = pd.read_csv(folder / "Nuclei.csv.gz")
    truth = table[["AreaShape_Center_X", "AreaShape_Center_Y"]].to_numpy()
    labels = otsu(grey(folder / "r01c01f01p01-ch5sk1fk1fl1.tiff"))
    x, y, area = centers(labels)
    matched = matched_centres(truth, np.column_stack([x, y]), 10)
    assert len(truth) == 109
    assert 2 * matched / (len(truth) + len(x)) >= 0.95
    assert abs(np.median(area) / table["AreaShape_Area"].median() - 1) < 0.25


def test_plate_of_eight_bits(shared_data):
    paths = sorted((shared_data / "bbbc013" / "images").glob("Channel2-*.tif"))[::16]
    results = [centers(otsu(grey(path))) for path in paths]
    # About 180 cells a well, fewer at high doses; a nucleus is about 15 pixels wide.
    assert 120 < np.mean([len(x) for x, _, _ in results]) < 240
    assert all(100 < np.median(area) < 300 for _, _, area in results)


@pytest.mark.parametrize("radius", [4, 8, 20, 40])
def test_disks_of_any_size(radius):
    step = 3 * radius
    grid = np.arange(step, 12 * radius, step)
    positions = [(row, column) for row in grid for column in grid]
    shape = (13 * radius, 13 * radius)
    image = nuclei(positions, [radius] * len(positions), shape)
    x, y, area = centers(otsu(image.astype(np.uint16)))
    located = np.column_stack([y, x])
    assert len(located) == len(positions)
    assert matched_centres(np.array(positions, float), located, 1.0) == len(positions)
    # Half a pixel of radius: the drawn edge is blurred.
    assert np.abs(np.sqrt(area / np.pi) - radius).max() < 0.6


def test_touching_nuclei_are_split_and_holes_filled():
    image = nuclei([(60, 60), (60, 83), (180, 60), (180, 180)], [12, 12, 12, 12])
    image[178:183, 178:183] = 100
    labels = otsu(image)
    assert labels.max() == 4
    assert labels[60, 60] != labels[60, 83]
    assert labels[180, 180] > 0


@pytest.mark.parametrize(("border", "count"), [("drop", 2), ("keep", 4)])
def test_border(border, count):
    image = nuclei([(5, 60), (120, 252), (120, 120), (60, 200)], [12] * 4)
    labels = otsu(image, border=border)
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == list(range(count + 1))


def test_size_limits():
    image = nuclei([(60, 60), (60, 180), (180, 60), (180, 180)], [12, 12, 12, 6])
    assert otsu(image).max() == 4
    assert otsu(image, min_diameter=18).max() == 3
    assert otsu(image, max_diameter=18).max() == 1
    assert otsu(image, min_diameter=100).max() == 0


@pytest.mark.parametrize("shape", [(256, 256), (300, 200)])
@pytest.mark.parametrize("kind", ["constant", "zero", "noise", "gradient", "vignette"])
def test_field_without_nuclei(kind, shape):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    image = {
        "constant": np.full(shape, 700),
        "zero": np.zeros(shape),
        "noise": rng.poisson(300, shape),
        "gradient": 1000 + 300 * rows,
        "vignette": rng.poisson(1000 * (1 - 0.3 * (rows**2 + columns**2) / 2)),
    }[kind]
    labels = otsu(image.astype(np.uint16))
    assert labels.shape == shape
    assert not labels.any()
    assert [len(part) for part in centers(labels)] == [0, 0, 0]


def test_type_and_pedestal_do_not_matter():
    image = nuclei([(60, 60), (60, 180), (180, 60), (180, 180)], [12, 10, 8, 11])
    first = otsu(image.astype(np.uint16))
    for other in (
        (image - 32768).astype(np.int16),
        (image * 4).astype(np.uint16),
        image.astype(np.float32) / 65535,
        (image * 50_000).astype(np.uint32),
    ):
        np.testing.assert_array_equal(otsu(other), first)


def test_centers_are_means_of_pixels():
    labels = np.zeros((9, 12), np.int32)
    labels[2:5, 1:4] = 1
    labels[7, 5:9] = 4
    x, y, area = centers(labels)
    assert (x.tolist(), y.tolist(), area.tolist()) == ([2, 6.5], [3, 7], [9, 4])


SHARED = {"min_diameter": None, "max_diameter": None, "border": "keep"}


@pytest.fixture
def plugin_folder(tmp_path) -> Iterator[Path]:
    (tmp_path / "segmenters").mkdir()
    yield tmp_path
    discover(None, (SEGMENTERS,))


def write_segmenter(folder: Path, text: str) -> None:
    source = "import numpy as np\nfrom deepprofiler.registry import SEGMENTERS\n\n" + dedent(text)
    (folder / "segmenters" / "own.py").write_text(source)
    discover(folder, (SEGMENTERS,))


def test_segmenter_of_a_name():
    image = nuclei([(60, 60), (60, 180), (180, 60), (180, 180)], [12, 12, 12, 6])
    labels = segment(image, "otsu", min_diameter=18, max_diameter=None, border="drop")
    np.testing.assert_array_equal(labels, otsu(image, min_diameter=18))
    with pytest.raises(PluginError, match="no segmenter `ostu`; nearest is `otsu`"):
        segment(image, "ostu", **SHARED)


def test_segmenter_of_a_project_has_parameters_of_its_own(plugin_folder):
    write_segmenter(
        plugin_folder,
        """
        @SEGMENTERS.register
        def bright(image, *, threshold: float = 10.0, border):
            assert border == "keep"
            return (image > threshold).astype(np.uint8)
        """,
    )
    image = np.arange(20.0).reshape(4, 5)
    assert segment(image, "bright", **SHARED).sum() == 9
    assert segment(image, "bright", {"threshold": 15}, **SHARED).sum() == 4
    assert SEGMENTERS.parameters("bright") == {"threshold": 10.0}
    with pytest.raises(PluginError, match="no parameter `treshold`; nearest is `threshold`"):
        segment(image, "bright", {"treshold": 15}, **SHARED)


@pytest.mark.parametrize(
    ("result", "returned"),
    [
        ("image > 10", r"bool of shape \(4, 5\)"),
        ("image", r"float64 of shape \(4, 5\)"),
        ("-np.ones(image.shape, int)", "a label -1"),
        ("np.zeros((4, 4), int)", r"int64 of shape \(4, 4\)"),
        ("None", "a NoneType"),
    ],
)
def test_segmenter_must_return_labels(plugin_folder, result, returned):
    write_segmenter(
        plugin_folder,
        f"""
        @SEGMENTERS.register
        def wrong(image):
            return {result}
        """,
    )
    with pytest.raises(PluginError, match=f"segmenter `wrong` returned .*{returned}"):
        segment(np.arange(20.0).reshape(4, 5), "wrong", **SHARED)
