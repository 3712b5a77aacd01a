"""TVN against scikit-learn's whitening and covariances, and CORAL's closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import sqrtm
from sklearn.covariance import ShrunkCovariance, ledoit_wolf, oas
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from deepprofiler.errors import DataError
from deepprofiler.profiling import TVN, CellMoments, Moments, Profiles
from deepprofiler.profiling.shrinkage import shrink

BATCH = "Metadata_Batch"


def profiles_of(features: np.ndarray, batch: list[str] | None = None) -> Profiles:
    names = [f"f{i}" for i in range(features.shape[1])]
    return Profiles(pd.DataFrame({BATCH: batch or ["1"] * len(features)}), features, names)


def correlated(n: int, size: int, seed: int = 0, mean: float = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, size)) @ rng.normal(size=(size, size)) + mean


@pytest.mark.parametrize(("n", "size"), [(20, 5), (5, 20), (300, 50)])
def test_shrunk_covariances_are_scikit_learns(n: int, size: int) -> None:
    rows = correlated(n, size)
    for rule, oracle in (("oas", oas), ("ledoit-wolf", ledoit_wolf)):
        covariance, weight = oracle(rows)
        given = shrink(Moments.of(rows), rule, rows)
        assert given.weight == pytest.approx(weight)
        np.testing.assert_allclose(given.covariance, covariance, atol=1e-10)


@pytest.mark.parametrize(("n", "size"), [(20, 5), (10, 20), (60, 50), (300, 50)])
def test_held_out_likelihood_is_scikit_learns_search(n: int, size: int) -> None:
    rows = correlated(n, size)
    weights = {"shrinkage": np.linspace(0.01, 1, 100)}
    search = GridSearchCV(ShrunkCovariance(), weights, cv=PredefinedSplit(np.arange(n) % 5))
    given = shrink(Moments.of(rows), "held-out", rows)
    assert given.weight == pytest.approx(search.fit(rows).best_params_["shrinkage"])
    expected = ShrunkCovariance(shrinkage=given.weight).fit(rows).covariance_
    np.testing.assert_allclose(given.covariance, expected, atol=1e-10)


def test_held_out_likelihood_of_almost_nothing_shrinks_wholly() -> None:
    for rows in (correlated(2, 4), np.ones((10, 4))):
        assert shrink(Moments.of(rows), "held-out", rows).weight == 1


def test_whitened_controls_have_the_identity_as_covariance() -> None:
    """200 controls × 8, mean 5."""
    rows = correlated(200, 8)
    white = TVN(shrinkage=0).fit(profiles_of(rows)).transform(profiles_of(rows)).features
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(8), atol=1e-6)
    far = profiles_of(rows + 1000)
    np.testing.assert_allclose(TVN(shrinkage=0).fit(far).transform(far).features, white, atol=1e-6)


def test_it_is_scikit_learns_whitening_up_to_the_axes_signs() -> None:
    rows, others = correlated(200, 8), correlated(50, 8, seed=1)
    fitted = TVN(shrinkage=0).fit(profiles_of(rows))
    pca = PCA(whiten=True).fit(rows)
    # scikit-learn divides the covariance by n − 1.
    expected = pca.transform(others) * np.sqrt(200 / 199)
    given = fitted.transform(profiles_of(others)).features
    np.testing.assert_allclose(np.abs(given), np.abs(expected), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(given @ given.T, expected @ expected.T, atol=1e-8)


def test_with_epsilon_the_variances_are_those_of_the_formula() -> None:
    rows, epsilon = correlated(200, 8), 0.3
    white = TVN(shrinkage=epsilon).fit(profiles_of(rows)).transform(profiles_of(rows)).features
    values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
    expected = np.diag(values / (values + epsilon * values.mean()))
    np.testing.assert_allclose(np.cov(white.T, bias=True), expected, atol=1e-8)


def test_coral_gives_every_batch_the_covariance_of_all() -> None:
    """Without shrinkage and with n ≫ D, in closed form: W C_b^-½ C^½ for each batch."""
    rng = np.random.default_rng(0)
    factors = {"1": np.diag([1.0, 2, 3]), "2": np.array([[2.0, 1, 0], [0, 1, 1], [0, 0, 0.5]])}
    parts = {key: rng.normal(size=(400, 3)) @ factor for key, factor in factors.items()}
    rows = np.concatenate(list(parts.values()))
    profiles = profiles_of(rows, ["1"] * 400 + ["2"] * 400)
    fitted = TVN(batch=BATCH, shrinkage=0).fit(profiles)
    given = fitted.transform(profiles).features
    white = (rows - rows.mean(axis=0)) @ fitted.whitening_
    whole = np.cov(white.T, bias=True)
    for start, stop in ((0, 400), (400, 800)):
        own = np.cov(white[start:stop].T, bias=True)
        expected = white[start:stop] @ np.linalg.inv(sqrtm(own)).real @ sqrtm(whole).real
        np.testing.assert_allclose(given[start:stop], expected, atol=1e-8)
        np.testing.assert_allclose(np.cov(given[start:stop].T, bias=True), whole, atol=1e-8)
    assert [batch.n for batch in fitted.fitted_.batches] == [400, 400]


def test_coral_on_gaussians_of_known_covariance() -> None:
    """From the truth alone: pooled covariance is the mean of both plus that of the means."""
    rng = np.random.default_rng(0)
    sigma = {"1": np.diag([1.0, 4.0]), "2": np.array([[2.0, 0.8], [0.8, 1.0]])}
    n = 200_000
    cells = CellMoments(["f0", "f1"])
    for key, covariance in sigma.items():
        cells.add({BATCH: key}, rng.multivariate_normal([3, -1], covariance, size=n))
    fitted = TVN(batch=BATCH, shrinkage=0).fit(
        profiles_of(np.zeros((2, 2)), ["1", "2"]), cells=cells
    )
    values, vectors = np.linalg.eigh((sigma["1"] + sigma["2"]) / 2)
    axes = vectors[:, ::-1] / np.sqrt(values[::-1])
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    for key, covariance in sigma.items():
        own = axes.T @ covariance @ axes
        expected = axes @ np.linalg.inv(sqrtm(own)).real
        np.testing.assert_allclose(fitted.maps_[key].matrix, expected, rtol=0.02, atol=0.005)


def test_means_of_batches_are_moved_only_on_demand() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(0, 1, (300, 3)), rng.normal(2, 1, (300, 3))])
    profiles = profiles_of(rows, ["1"] * 300 + ["2"] * 300)
    left = TVN(batch=BATCH, shrinkage=0).fit(profiles).transform(profiles).features
    moved = TVN(batch=BATCH, shrinkage=0, center_batches=True).fit(profiles)
    centred = moved.transform(profiles).features
    assert np.linalg.norm(left[:300].mean(axis=0)) > 0.5
    np.testing.assert_allclose(centred[:300].mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(centred[300:].mean(axis=0), 0, atol=1e-10)


@pytest.mark.parametrize("shrinkage", ["oas", 0.05])
def test_moments_of_cells_fit_what_the_cells_themselves_would(shrinkage: str | float) -> None:
    rows = correlated(90, 6)
    batch = ["1"] * 40 + ["2"] * 50
    cells = CellMoments([f"f{i}" for i in range(6)])
    for start in range(0, 90, 10):
        cells.add({"Metadata_Plate": f"P{start}", BATCH: batch[start]}, rows[start : start + 10])
    wells = profiles_of(correlated(4, 6, seed=9), ["1", "2", "1", "2"])
    by_cells = TVN(batch=BATCH, shrinkage=shrinkage).fit(wells, cells=cells)
    by_rows = TVN(batch=BATCH, shrinkage=shrinkage).fit(profiles_of(rows, batch))
    np.testing.assert_allclose(
        by_cells.transform(wells).features, by_rows.transform(wells).features, atol=1e-8
    )
    summary = by_cells.fitted_
    assert (summary.n, summary.unit, summary.d, summary.rank) == (90, "cells", 6, 6)
    assert (by_rows.fitted_.n, by_rows.fitted_.unit) == (90, "wells")


def test_fewer_controls_than_features_stay_bounded_when_shrunk() -> None:
    """10 controls × 50, and 60 × 50 with two equal columns."""
    few = correlated(10, 50)
    epsilon = 0.01
    fitted = TVN(shrinkage=epsilon).fit(profiles_of(few))
    summary = fitted.fitted_
    assert (summary.n, summary.unit, summary.d, summary.rank) == (10, "wells", 50, 9)
    others = correlated(30, 50, seed=3)
    given = fitted.transform(profiles_of(others)).features
    distance = np.linalg.norm(others - few.mean(axis=0), axis=1)
    added = epsilon * np.trace(np.cov(few.T, bias=True)) / 50
    assert (np.linalg.norm(given, axis=1) <= distance / np.sqrt(added) * (1 + 1e-9)).all()
    doubled = correlated(60, 50)
    doubled[:, 1] = doubled[:, 0]
    assert TVN().fit(profiles_of(doubled)).fitted_.rank == 49
    for rows, rank in ((few, 9), (doubled, 49)):
        with pytest.raises(DataError, match=f"rank {rank} of 50 .* choose shrinkage oas"):
            TVN(shrinkage=0).fit(profiles_of(rows))


def test_a_batch_of_too_low_rank_is_seen_after_ill_conditioned_maps() -> None:
    """36 controls have rank 35 at most, whatever rounding makes of the other axes."""
    rows = correlated(136, 36) * np.logspace(0, -3, 36)
    profiles = profiles_of(rows, ["1"] * 100 + ["2"] * 36)
    fitted = TVN(batch=BATCH).fit(profiles)
    assert [batch.rank for batch in fitted.fitted_.batches] == [36, 35]
    with pytest.raises(DataError, match="batch 2 cannot be inverted: rank 35 of 36"):
        TVN(batch=BATCH, shrinkage=0).fit(profiles)


@pytest.mark.parametrize("left", [1, 0])
def test_a_batch_without_controls_is_named(left: int) -> None:
    rows = correlated(20, 3)
    profiles = profiles_of(rows, ["1"] * 10 + ["week 2"] * 10)
    controls = np.arange(20) < 10 + left
    with pytest.raises(DataError, match=f"week 2 has {left} control wells and needs at least 2"):
        TVN(batch=BATCH).fit(profiles, controls=controls)
    with pytest.raises(DataError, match=f"week 2 has {left} control wells and needs at least 4"):
        TVN(batch=BATCH, shrinkage=0).fit(profiles, controls=controls)
    cells = CellMoments(profiles.names)
    cells.add({BATCH: "1"}, rows)
    if left:
        cells.add({BATCH: "week 2"}, rows[:1])
    with pytest.raises(DataError, match=f"week 2 has {left} control cells"):
        TVN(batch=BATCH).fit(profiles, controls=controls, cells=cells)


def test_what_cannot_be_fitted_is_refused() -> None:
    profiles = profiles_of(correlated(20, 3))
    with pytest.raises(DataError, match="the screen has 0 control wells"):
        TVN().fit(profiles, controls=np.zeros(20, bool))
    with pytest.raises(DataError, match="do not vary"):
        TVN().fit(profiles_of(np.ones((5, 3))))
    with pytest.raises(DataError, match="fit_on cells needs"):
        TVN(fit_on="cells").fit(profiles)
    cells = CellMoments(profiles.names)
    cells.add({BATCH: "1"}, profiles.features)
    for rule in ("ledoit-wolf", "held-out"):
        with pytest.raises(DataError, match="choose shrinkage oas or fit_on wells"):
            TVN(shrinkage=rule).fit(profiles, cells=cells)
        fitted = TVN(shrinkage=rule, fit_on="wells").fit(profiles, cells=cells)
        assert fitted.fitted_.n == 20
    with pytest.raises(DataError, match="features are not those"):
        TVN().fit(profiles, cells=CellMoments(["a"]))
    with pytest.raises(DataError, match="not fitted for batch '2'"):
        TVN(batch=BATCH).fit(profiles).transform(profiles.with_column(BATCH, "2"))


def test_a_shrinkage_of_almost_nothing_is_none() -> None:
    rows = correlated(10, 50)
    with pytest.raises(DataError, match="rank 9 of 50 features"):
        TVN(shrinkage=1e-17).fit(profiles_of(rows))
    assert np.isfinite(
        TVN(shrinkage=1e-6).fit(profiles_of(rows)).transform(profiles_of(rows)).features
    ).all()
