"""Views of whole fields: every pixel once on a grid, every place as probable at random."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deepprofiler.errors import DataError
from deepprofiler.imaging.crop import cut, grid_views, random_views


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbered(height: int, width: int) -> np.ndarray:
    """Image (H, W, 1) in which every pixel has another value, none 0."""
    return 1 + np.arange(height * width).reshape(height, width, 1)


@pytest.mark.parametrize(("shape", "size"), [((128, 192), 64), ((45, 75), 15), ((64, 64), 64)])
def test_a_grid_shows_every_pixel_exactly_once(shape, size):
    image = numbered(*shape)
    crops = cut(image, grid_views(shape, size, 1.0, rng()), size)
    np.testing.assert_array_equal(np.sort(crops.ravel()), image.ravel())
    # Row by row, as one reads.
    assert np.all(np.diff(crops[:, 0, 0, 0]) > 0)


@pytest.mark.parametrize(("shape", "size"), [((100, 130), 64), ((1080, 1080), 250), ((17, 64), 16)])
def test_a_grid_that_does_not_fit_overlaps_evenly(shape, size):
    image = numbered(*shape)
    centers = grid_views(shape, size, 1.0, rng())
    rows, columns = (-(-side // size) for side in shape)
    assert len(centers) == rows * columns
    crops = cut(image, centers, size)
    assert set(crops.ravel()) == set(image.ravel()), "every pixel, and none beyond the image"
    for axis in (0, 1):
        steps = np.diff(np.unique(centers[:, axis]))
        assert np.allclose(steps, steps[:1])


def test_the_grid_of_the_original():
    # 1,080 pixels in views of 500: 250, 540 and 830, by hand.
    centers = grid_views((1080, 1080), 500, 1.0, rng())
    expected = [[x, y] for y in (250, 540, 830) for x in (250, 540, 830)]
    np.testing.assert_array_equal(centers, expected)


@pytest.mark.parametrize(
    ("coverage", "kept"), [(1.0, 100), (0.5, 50), (0.07, 7), (0.071, 8), (1e-6, 1)]
)
def test_coverage_of_a_grid(coverage, kept):
    whole = grid_views((100, 100), 10, 1.0, rng())
    some = grid_views((100, 100), 10, coverage, rng(3))
    assert len(some) == kept
    places = [whole.tolist().index(view) for view in some.tolist()]
    assert places == sorted(set(places)), "views of the whole grid, in its order, none twice"


def test_views_of_a_grid_are_kept_evenly():
    draws = rng(1)
    counts = np.zeros((4, 4))
    for _ in range(4000):
        x, y = (grid_views((64, 64), 16, 0.25, draws) // 16).astype(int).T
        counts[y, x] += 1
    assert counts.sum() == 16000
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("shape", "size", "coverage", "number"),
    [((256, 256), 64, 1.0, 16), ((256, 256), 64, 0.5, 8), ((100, 130), 64, 1.0, 4),
     ((64, 64), 64, 1.0, 1), ((100, 100), 10, 0.07, 7), ((100, 100), 10, 0.071, 8)],
)  # fmt: skip
def test_random_views_cover_the_area_and_lie_inside(shape, size, coverage, number):
    centers = random_views(shape, size, coverage, rng())
    assert len(centers) == number
    assert cut(numbered(*shape), centers, size).all(), "nothing beyond the image"


def test_random_views_are_uniform():
    draws = rng(2)
    views = np.concatenate([random_views((20, 27), 16, 1.0, draws) for _ in range(20000)])
    # 5 rows and 12 columns where a view may begin.
    left, top = (views - 8).astype(int).T
    counts = np.zeros((5, 12))
    np.add.at(counts, (top, left), 1)
    assert counts.sum() == 60000
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_the_same_seed_gives_the_same_views():
    for place in (grid_views, random_views):
        first, again, other = (place((256, 256), 32, 0.5, rng(seed)) for seed in (5, 5, 6))
        np.testing.assert_array_equal(first, again)
        assert first.tolist() != other.tolist()


@pytest.mark.parametrize("size", [15, 16])
def test_a_margin_leaves_the_view_in_the_middle(size):
    image = numbered(50, 60)
    for place in (grid_views, random_views):
        centers = place((50, 60), size, 1.0, rng(7))
        wide = cut(image, centers, size + 8)
        np.testing.assert_array_equal(wide[:, 4:-4, 4:-4], cut(image, centers, size))


def test_images_that_are_too_small():
    for place in (grid_views, random_views):
        with pytest.raises(DataError, match=r"40 × 100 pixels, smaller than a view of 64 × 64"):
            place((40, 100), 64, 1.0, rng())
