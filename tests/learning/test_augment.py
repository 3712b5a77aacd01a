"""Augmentation and rescaling against NumPy, SciPy and closed forms."""

from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates
from scipy.stats import chisquare

from deepprofiler.learning.augment import augment, centre, rescale
from deepprofiler.learning.cell_store import margin
from deepprofiler.learning.learning_settings import Augmentation, Rescale

RULES = get_args(Rescale)

NOTHING = Augmentation(flips=False, turns=False, rotations=False, shift=0)


def run(crops: np.ndarray, size: int, augmentation: Augmentation, seed: int = 0) -> np.ndarray:
    return np.asarray(augment(tf.constant(crops), size, augmentation, [seed, 1]))


def same(count: int, side: int, channels: int = 2) -> np.ndarray:
    """One crop without symmetries, many times."""
    crop = np.random.default_rng(0).integers(0, 256, (side, side, channels), dtype=np.uint8)
    return np.repeat(crop[np.newaxis], count, axis=0)


def counts_of(found: np.ndarray, options: list[np.ndarray]) -> np.ndarray:
    """How often each option occurs; every result must be one of them."""
    equal = np.array([(found == option).all(axis=(1, 2, 3)) for option in options])
    assert (equal.sum(axis=0) == 1).all()
    return equal.sum(axis=1)


def test_nothing_is_the_centre() -> None:
    crops = same(3, 12)
    np.testing.assert_array_equal(run(crops, 8, NOTHING), crops[:, 2:10, 2:10])
    np.testing.assert_array_equal(np.asarray(centre(tf.constant(crops), 8)), crops[:, 2:10, 2:10])


@pytest.mark.parametrize(
    ("augmentation", "options"),
    [
        (Augmentation(flips=True, turns=False, shift=0), [(0, 0), (0, 1), (2, 0), (2, 1)]),
        (Augmentation(flips=False, turns=True, shift=0), [(k, 0) for k in range(4)]),
        (Augmentation(flips=True, turns=True, shift=0), list(product(range(4), (0, 1)))),
    ],
)
def test_flips_and_turns_are_exact_and_uniform(
    augmentation: Augmentation, options: list[tuple[int, int]]
) -> None:
    crops = same(8000, 10)
    inner = crops[0, 2:8, 2:8]
    views = [np.rot90(inner[:, ::-1] if flip else inner, turns) for turns, flip in options]
    found = run(crops, 6, augmentation)
    assert found.dtype == np.uint8
    assert chisquare(counts_of(found, views)).pvalue > 0.001


def test_shifts_are_whole_pixels_uniform_and_in_range() -> None:
    crops = same(9000, 6 + margin(6, shift=3, rotations=False))
    found = run(crops, 6, Augmentation(flips=False, turns=False, shift=3))
    views = [crops[0, y : y + 6, x : x + 6] for y in range(7) for x in range(7)]
    assert chisquare(counts_of(found, views)).pvalue > 0.001


def test_rotation_equals_scipy() -> None:
    """Recover angle, shift and flip from a linear image, then compare a noise image."""
    size, shift = 16, 3
    side = size + margin(size, shift=shift, rotations=True)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    noise = np.random.default_rng(1).random((side, side)).astype(np.float32) * 255
    crops = np.repeat(np.stack([x, y, noise], axis=-1)[np.newaxis], 500, axis=0)
    augmentation = Augmentation(rotations=True, shift=shift)
    found = run(crops, size, augmentation, seed=7)
    for crop in found[:40]:
        truth = map_coordinates(noise, [crop[..., 1], crop[..., 0]], order=1)
        np.testing.assert_allclose(crop[..., 2], truth, atol=0.02)
    # Each view is a rigid, perhaps mirrored grid of unit steps around a whole-pixel shift.
    across = found[:, 0, 1, :2] - found[:, 0, 0, :2]
    down = found[:, 1, 0, :2] - found[:, 0, 0, :2]
    np.testing.assert_allclose(np.hypot(*across.T), 1, atol=1e-4)
    np.testing.assert_allclose((across * down).sum(axis=1), 0, atol=1e-4)
    mirrored = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
    assert chisquare(np.bincount((mirrored > 0).astype(int))).pvalue > 0.001
    middle = found[..., :2].mean(axis=(1, 2)) - (side - 1) / 2
    np.testing.assert_allclose(middle, np.round(middle), atol=1e-3)
    assert np.abs(np.round(middle)).max() == shift
    angle = np.arctan2(across[:, 1], across[:, 0])
    assert chisquare(np.histogram(angle, 8, (-np.pi, np.pi))[0]).pvalue > 0.001


@pytest.mark.parametrize("rotations", [False, True])
@pytest.mark.parametrize("size", [8, 15, 48])
@pytest.mark.parametrize("shift", [0, 5])
def test_no_black_corners(rotations: bool, size: int, shift: int) -> None:
    side = size + margin(size, shift=shift, rotations=rotations)
    crops = np.full((300, side, side, 1), 200, np.uint8)
    found = run(crops, size, Augmentation(rotations=rotations, shift=shift))
    assert found.shape == (300, size, size, 1)
    np.testing.assert_allclose(found, 200, rtol=1e-5)


def test_a_seed_decides_the_views_and_each_cell_has_its_own() -> None:
    crops = same(64, 20)
    for augmentation in (Augmentation(shift=2), Augmentation(shift=0, rotations=True)):
        first = run(crops, 8, augmentation, seed=3)
        np.testing.assert_array_equal(first, run(crops, 8, augmentation, seed=3))
        assert (first != run(crops, 8, augmentation, seed=4)).any()
        assert len(np.unique(first.reshape(64, -1), axis=0)) > 20


def closed_form(x: np.ndarray, rule: str) -> np.ndarray:
    x = x.astype(np.float64)
    low, high = x.min(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = {
            "min-max": (x - low) / (high - low + 1e-7),
            "max": x / high,
            "legacy-0.3": (x - low) / high,
            "standardize": (x - x.mean(axis=(1, 2), keepdims=True))
            / x.std(axis=(1, 2), keepdims=True),
            "none": x,
        }[rule]
    return np.where(high > low, scaled, 0)


@pytest.mark.parametrize("rule", RULES)
def test_rules_equal_their_closed_forms(rule: str) -> None:
    crops = np.random.default_rng(2).integers(100, 60000, (5, 9, 9, 3)).astype(np.uint16)
    crops[1, :, :, 0] = 0
    crops[2, :, :, 1] = 65535
    crops[3, :, :, 2] = 12345
    found = np.asarray(rescale(crops, rule))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, closed_form(crops, rule), rtol=2e-5, atol=2e-6)
    for where in ((1, ..., 0), (2, ..., 1), (3, ..., 2)):
        assert (found[where] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_min_max_at_the_ends_of_16_bits(dtype: type) -> None:
    crops = np.zeros((4, 16, 16, 1), dtype)
    crops[0] = np.linspace(100, 200, 256).reshape(16, 16, 1)
    crops[2] = 65535
    crops[3] = 65534
    crops[3, ::2] = 65535
    found = np.asarray(rescale(crops, "min-max"))
    assert np.isfinite(found).all()
    assert found[0].min() == 0
    assert found[0].max() == pytest.approx(1, abs=1e-6)
    assert (found[1:3] == 0).all()
    np.testing.assert_allclose(np.unique(found[3]), [0, 1], atol=2e-7)


def test_years_of_the_original_differ_as_reported() -> None:
    crop = np.array([1000, 3000, 2000, 1500], np.uint16).reshape(1, 2, 2, 1)
    assert np.asarray(rescale(crop, "legacy-0.3")).max() == pytest.approx(2 / 3, abs=1e-6)
    assert np.asarray(rescale(crop, "min-max")).max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_8_bit_crops_are_scaled_as_their_originals(rule: str) -> None:
    rng = np.random.default_rng(3)
    raw = rng.integers(300, 40000, (6, 12, 12, 2)).astype(np.float64)
    raw[2, :, :, 1] = 777
    low, high = raw.min(axis=(1, 2)), raw.max(axis=(1, 2))
    span = np.maximum(high - low, 1)[:, None, None, :]
    stored = np.rint((raw - low[:, None, None, :]) / span * 255).astype(np.uint8)
    found = np.asarray(rescale(stored, rule, low.astype(np.float32), high.astype(np.float32)))
    truth = closed_form(raw, rule)
    # One grey level is 1/255 of the range; in the units of each rule:
    level = {"min-max": 1, "max": 1, "legacy-0.3": 1, "standardize": 3.7, "none": 40000}[rule]
    np.testing.assert_allclose(found, truth, atol=0.6 * level / 255)
    assert (found[2, :, :, 1] == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_what_is_not_a_number_is_not_hidden(rule: str) -> None:
    crops = np.random.default_rng(4).random((2, 4, 4, 2)).astype(np.float32)
    crops[1, 2, 2, 0] = np.nan
    found = np.isnan(np.asarray(rescale(crops, rule)))
    assert found[1, 2, 2, 0]
    assert not found[0].any()
    assert not found[..., 1].any()
    stored = np.random.default_rng(4).integers(0, 256, (1, 4, 4, 1), dtype=np.uint8)
    lost = np.full((1, 1), np.nan, np.float32)
    if rule != "min-max":
        assert np.isnan(np.asarray(rescale(stored, rule, lost, lost))).all()


def test_unknown_rule() -> None:
    with pytest.raises(ValueError, match="there are min-max, max"):
        rescale(np.ones((1, 2, 2, 1)), "minmax")
