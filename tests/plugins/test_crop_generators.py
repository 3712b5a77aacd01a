"""The shipped crop generators, through the pipeline that feeds them to a network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import beta, chisquare, kstest

from deepprofiler.errors import PluginError
from deepprofiler.learning.batches import Batches, CropView
from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.learning_settings import Augmentation
from deepprofiler.learning.network import Network
from deepprofiler.learning.sampling import Cells
from deepprofiler.registry import CROP_GENERATORS, MODELS, discover

SIZE = 8
NAMES = ("single", "sequence", "mixup", "online_labels")


@pytest.fixture(autouse=True)
def plugins() -> None:
    discover()


def make_cells(count: int = 90, classes: int = 3) -> Cells:
    """Many cells of class 0 and few of the others, in three batches of two replicates."""
    index = np.arange(count)
    label = np.where(index % 10 < 8, 0, index % 10 - 7) % classes
    return Cells.from_columns(
        row=index,
        label=label,
        classes=classes,
        plate=[f"P{code % 3}" for code in index // 2],
        well=[f"A{code % 2:02d}" for code in index],
        replicate=[str(code % 2) for code in index],
    )


def make_batches(
    generator: CropGenerator,
    network: Network | None = None,
    size: int = 16,
    shift: int = 0,
    pixels: np.ndarray | None = None,
) -> Batches:
    """Batches of crops that are all the same, (S, S) pixels without any symmetry."""
    cells = make_cells()
    side = SIZE + 2 * shift
    pixels = np.arange(side * side) if pixels is None else pixels
    crop = pixels.astype(np.uint8).reshape(1, side, side, 1)
    ones = np.ones((len(cells), 1), "f")

    def gather(rows: np.ndarray) -> Any:
        return np.repeat(crop, len(rows), axis=0), 0 * ones[rows], 255 * ones[rows]

    network = network or MODELS.build("resnet18", (SIZE, SIZE, 1), 3)
    look = CropView(SIZE, "min-max", Augmentation(shift=shift))
    return Batches(generator, network, gather, cells, look, size)


def epoch(batches: Batches, steps: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for x, y in batches.training(seed, 1, steps):
        yield x.numpy(), y.numpy()


@pytest.mark.parametrize(
    ("name", "params", "examples"),
    [
        ("single", {}, 120_000),
        ("sequence", {}, 20_000),
        ("sequence", {"length": 8}, 6_000),
        ("mixup", {}, 120_000),
        ("online_labels", {}, 120_000),
    ],
)
def test_labels_are_uniform_under_strong_imbalance(
    name: str, params: dict[str, Any], examples: int
) -> None:
    cells = make_cells()
    assert cells.counts.max() > 7 * cells.counts.min()
    generator = CROP_GENERATORS.build(name, params=params)
    drawn = generator.draw(cells, examples, np.random.default_rng(4))
    assert drawn.shape == (examples, drawn.size // examples)
    labels = cells.label[drawn]
    assert chisquare(np.bincount(labels[:, 0])).pvalue > 0.001
    if name == "sequence":
        assert (labels == labels[:, :1]).all()
        counts = [len(set(batches)) for batches in cells.batch[drawn][:500].tolist()]
        assert set(counts) == {3}, "five or eight cells of three batches"
        assert all(len(set(rows)) == len(rows) for rows in drawn[:500].tolist())
    elif name == "mixup":
        assert chisquare(np.bincount(labels[:, 1])).pvalue > 0.001
        assert (cells.batch[drawn[:, 0]] != cells.batch[drawn[:, 1]]).all()


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1.0, 2.0])
def test_the_share_of_a_mixture_follows_beta(alpha: float) -> None:
    generator = CROP_GENERATORS.build("mixup", params={"alpha": alpha})
    count = 100_000
    labels = np.broadcast_to(np.eye(2, dtype=np.float32), (count, 2, 2))
    crops = np.broadcast_to(
        np.array([1, 0], np.float32).reshape(1, 2, 1, 1, 1), (count, 2, 1, 1, 1)
    )
    x, y = generator.combine(tf.constant(crops), tf.constant(labels), tf.constant([7, 8]))
    shares = y.numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(x.numpy()[:, 0, 0, 0], shares[:, 0])
    smaller = shares.min(axis=1).astype(np.float64)
    # Symmetric: P(min(λ, 1 − λ) ≤ t) = 2 P(λ ≤ t). Below 1e-38 are no 32-bit floats.
    seen = smaller[smaller > 1e-37]
    lost = 2 * beta.cdf(1e-37, alpha, alpha)
    assert len(seen) / count == pytest.approx(1 - lost, abs=0.005)

    def distribution(t: np.ndarray) -> np.ndarray:
        return (2 * beta.cdf(t, alpha, alpha) - lost) / (1 - lost)

    assert kstest(seen, distribution).pvalue > 0.001
    assert (shares[:, 0] > 0.5).mean() == pytest.approx(0.5, abs=0.01), "either cell may lead"


def test_pixels_and_labels_are_mixed_by_the_same_share() -> None:
    rng = np.random.default_rng(0)
    crops = rng.random((6, 2, SIZE, SIZE, 3), dtype=np.float32)
    labels = np.eye(4, dtype=np.float32)[rng.permuted(np.tile(np.arange(4), (6, 1)), axis=1)[:, :2]]
    generator = CROP_GENERATORS.build("mixup", params={"alpha": 1.0})
    x, y = generator.combine(tf.constant(crops), tf.constant(labels), tf.constant([1, 2]))
    share = (y.numpy() * labels[:, 0]).sum(axis=1).reshape(-1, 1, 1, 1)
    assert len(np.unique(share)) == 6, "a share for each pair"
    np.testing.assert_allclose(x, share * crops[:, 0] + (1 - share) * crops[:, 1], atol=1e-6)
    flat = share[:, :, 0, 0]
    np.testing.assert_allclose(y, flat * labels[:, 0] + (1 - flat) * labels[:, 1], atol=1e-6)


def _orientation(crops: np.ndarray) -> np.ndarray:
    """Which of the eight views of the one crop each is, (...)."""
    crop = np.arange(SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE) / (SIZE * SIZE - 1)
    views = [np.rot90(mirrored, k) for mirrored in (crop, crop[:, ::-1]) for k in range(4)]
    same = [np.isclose(crops[..., 0], view, atol=1e-3).all(axis=(-1, -2)) for view in views]
    assert (np.sum(same, axis=0) == 1).all()
    return np.argmax(same, axis=0)


def test_each_cell_of_a_sequence_is_augmented_by_itself() -> None:
    network = MODELS.build("recurrent", (SIZE, SIZE, 1), 3)
    batches = make_batches(CROP_GENERATORS.build("sequence", params={"length": 2}), network, 64)
    views = np.concatenate([_orientation(x) for x, _ in epoch(batches, 40)])
    joint = np.bincount(views[:, 0] * 8 + views[:, 1], minlength=64)
    assert chisquare(joint).pvalue > 0.001, "all pairs of views are as frequent"


def test_each_cell_of_a_mixture_is_augmented_by_itself() -> None:
    # Of noise: sums of two views of a ramp would be the same for many pairs.
    pixels = np.random.default_rng(0).permutation(SIZE * SIZE).reshape(SIZE, SIZE)
    generator = CROP_GENERATORS.build("mixup", params={"alpha": 1e6})
    batches = make_batches(generator, size=64, pixels=pixels)
    crop = pixels / (SIZE * SIZE - 1)
    views = [np.rot90(mirrored, k) for mirrored in (crop, crop[:, ::-1]) for k in range(4)]
    blends = np.array([(one + other) / 2 for one in views for other in views])
    # Blends that are the same, as those of a swapped pair, cannot be told apart.
    apart = np.abs(blends[:, None] - blends).max(axis=(2, 3))
    assert not ((apart > 1e-9) & (apart < 0.1)).any()
    kind = np.argmax(apart < 1e-9, axis=1)
    pairs = np.bincount(kind, minlength=64)
    assert sorted(pairs[pairs > 0]) == [1] * 8 + [2] * 28
    found = np.zeros(64, int)
    for x, _ in epoch(batches, 40):
        distances = np.abs(x[:, None, ..., 0] - blends).max(axis=(2, 3))
        assert (distances.min(axis=1) < 0.02).all()
        found += np.bincount(kind[distances.argmin(axis=1)], minlength=64)
    expected = found.sum() * pairs[pairs > 0] / 64
    assert chisquare(found[pairs > 0], expected).pvalue > 0.001, "all pairs are as frequent"


@pytest.mark.parametrize("name", NAMES)
def test_validation_shows_each_cell_once_and_as_it_is(name: str) -> None:
    model = "recurrent" if name == "sequence" else "resnet18"
    generator = CROP_GENERATORS.build(name)
    batches = make_batches(generator, MODELS.build(model, (SIZE, SIZE, 1), 3), size=32)
    shown = list(batches.validation())
    assert [len(x) for x, _ in shown] == [32, 32, 26], "the last short batch too"
    labels = np.concatenate([y.numpy() for _, y in shown])
    np.testing.assert_array_equal(labels, np.eye(3, dtype=np.float32)[batches.cells.label])
    views = _orientation(np.concatenate([x.numpy() for x, _ in shown]))
    assert (views == 0).all()
    assert views.shape == ((90, 5) if name == "sequence" else (90,))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_batches(name: str) -> None:
    model = "recurrent" if name == "sequence" else "resnet18"
    network = MODELS.build(model, (SIZE, SIZE, 1), 3)
    first, again, other = (
        list(epoch(make_batches(CROP_GENERATORS.build(name), network, shift=1), 3, seed))
        for seed in (5, 5, 6)
    )
    for (x, y), (x2, y2), (x3, _) in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)
        assert (x != x3).any()


_DRAWS = """
import json, sys
sys.path.insert(0, "tests/plugins")
from test_crop_generators import draws
print(json.dumps(draws()))
"""


def draws() -> dict[str, list[list[int]]]:
    discover()
    rng = np.random.default_rng
    return {
        name: CROP_GENERATORS.build(name).draw(make_cells(), 8, rng((1, 2, 3))).tolist()
        for name in NAMES
    }


def test_another_process_draws_the_same_cells() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _DRAWS], cwd=root, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == draws()


def test_online_labels_move_towards_predictions() -> None:
    generator = CROP_GENERATORS.build("online_labels", params={"blend": 0.25})
    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    asked = []

    def predict(rows: np.ndarray) -> np.ndarray:
        asked.append(rows.tolist())
        return np.full((len(rows), 3), 1 / 3)

    softened = generator.epoch_end(predict, labels)
    assert asked == [[0, 1, 2, 3]]
    assert softened.dtype == np.float32
    np.testing.assert_allclose(softened, 0.75 * labels + 0.25 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("sequence", {"length": 0}),
        ("sequence", {"length": 2.5}),
        ("mixup", {"alpha": 0}),
        ("mixup", {"alpha": "much"}),
        ("mixup", {"alpha": float("nan")}),
        ("online_labels", {"blend": 1.5}),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match=f"crop generator `{name}`: {next(iter(params))}"):
        CROP_GENERATORS.build(name, params=params)


def test_a_sequence_does_not_fit_a_model_of_single_cells() -> None:
    batches = make_batches(CROP_GENERATORS.build("sequence"))
    with pytest.raises(PluginError, match=r"Sequence and resnet18 do not fit"):
        batches.check()


def test_a_recurrent_model_takes_its_length_from_the_generator() -> None:
    network = MODELS.build("recurrent", (SIZE, SIZE, 1), 3)
    for length in (1, 3, 8):
        generator = CROP_GENERATORS.build("sequence", params={"length": length})
        batches = make_batches(generator, network, size=4)
        batches.check()
        x, _ = next(epoch(batches, 1))
        assert x.shape == (4, length, SIZE, SIZE, 1)
        assert network.train(x).shape == (4, 3)
    # Single cells too: a sequence of one is what `single` cannot give.
    batches = replace(make_batches(CROP_GENERATORS.build("single"), network))
    with pytest.raises(PluginError, match="Single and recurrent do not fit"):
        batches.check()
