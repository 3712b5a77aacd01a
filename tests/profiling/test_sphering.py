"""Sphering against its definition and scikit-learn's whitening, with many and few controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import sqrtm
from sklearn.decomposition import PCA

from deepprofiler.errors import DataError
from deepprofiler.profiling import CellMoments, Profiles, Sphering
from deepprofiler.profiling.shrinkage import Rule
from deepprofiler.profiling.sphering import Method

METHODS: list[Method] = ["PCA", "ZCA", "PCA-cor", "ZCA-cor"]


def profiles_of(features: np.ndarray) -> Profiles:
    names = [f"f{i}" for i in range(features.shape[1])]
    plate = pd.DataFrame({"Metadata_Plate": ["P1"] * len(features)})
    return Profiles(plate, features, names)


def correlated(n: int, size: int, seed: int = 0, mean: float = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, size)) @ rng.normal(size=(size, size)) + mean


@pytest.mark.parametrize("method", METHODS)
def test_controls_have_the_identity_as_covariance(method: Method) -> None:
    """200 controls × 8, mean 5; treated wells are transformed, not fitted on."""
    controls, treated = correlated(200, 8), correlated(50, 8, seed=1)
    both = profiles_of(np.concatenate([controls, treated]))
    mask = np.arange(250) < 200
    fitted = Sphering(method=method, shrinkage=0).fit(both, controls=mask)
    given = fitted.transform(both).features
    np.testing.assert_allclose(np.cov(given[mask].T, bias=True), np.eye(8), atol=1e-6)
    np.testing.assert_allclose(given[mask].mean(axis=0), 0, atol=1e-8)
    far = profiles_of(both.features + 1000)
    again = Sphering(method=method, shrinkage=0).fit(far, controls=mask).transform(far)
    np.testing.assert_allclose(again.features, given, atol=1e-6)
    # All whitenings are the same up to rotation: inner products agree with scikit-learn's.
    pca = PCA(whiten=True).fit(controls)
    expected = pca.transform(both.features) * np.sqrt(200 / 199)
    np.testing.assert_allclose(given @ given.T, expected @ expected.T, rtol=1e-6, atol=1e-6)
    summary = fitted.fitted_
    assert (summary.n, summary.unit, summary.d, summary.rank) == (200, "wells", 8, 8)


def test_each_form_is_its_own_rotation() -> None:
    """Kessy et al. 2018, table 1, with matrix roots of scipy."""
    rows = correlated(300, 5)
    covariance = np.cov(rows.T, bias=True)
    deviation = np.sqrt(np.diag(covariance))
    zca = np.linalg.inv(sqrtm(covariance).real)
    zca_cor = np.diag(1 / deviation) @ np.linalg.inv(
        sqrtm(covariance / np.outer(deviation, deviation)).real
    )
    for method, matrix in (("ZCA", zca), ("ZCA-cor", zca_cor)):
        fitted = Sphering(method=method, shrinkage=0).fit(profiles_of(rows))
        np.testing.assert_allclose(fitted.maps_[""].matrix, matrix, atol=1e-8)
        assert fitted.names_ == ["f0", "f1", "f2", "f3", "f4"]
    plain = Sphering(method="PCA", shrinkage=0).fit(profiles_of(rows)).transform(profiles_of(rows))
    expected = PCA(whiten=True).fit_transform(rows) * np.sqrt(300 / 299)
    np.testing.assert_allclose(np.abs(plain.features), np.abs(expected), atol=1e-8)
    assert plain.names[0] == "sphering_0"
    scaled = PCA(whiten=True).fit_transform((rows - rows.mean(axis=0)) / deviation)
    by_correlation = Sphering(method="PCA-cor", shrinkage=0).fit(profiles_of(rows))
    given = by_correlation.transform(profiles_of(rows)).features
    np.testing.assert_allclose(np.abs(given), np.abs(scaled) * np.sqrt(300 / 299), atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_fewer_controls_than_features(method: Method) -> None:
    """10 controls × 50, and 60 × 50 with two equal columns."""
    few, epsilon = correlated(10, 50), 0.01
    fitted = Sphering(method=method, shrinkage=epsilon).fit(profiles_of(few))
    summary = fitted.fitted_
    assert (summary.n, summary.unit, summary.d, summary.rank) == (10, "wells", 50, 9)
    others = correlated(30, 50, seed=3)
    distances = others - few.mean(axis=0)
    added = epsilon * np.trace(np.cov(few.T, bias=True)) / 50
    if method.endswith("-cor"):
        distances, added = distances / few.std(axis=0), epsilon
    given = np.linalg.norm(fitted.transform(profiles_of(others)).features, axis=1)
    bound = np.linalg.norm(distances, axis=1) / np.sqrt(added)
    assert (given <= bound * (1 + 1e-9)).all()
    doubled = correlated(60, 50)
    doubled[:, 1] = doubled[:, 0]
    for rows, rank in ((few, 9), (doubled, 49)):
        with pytest.raises(DataError, match=f"rank {rank} of 50 .* choose shrinkage oas"):
            Sphering(method=method, shrinkage=0).fit(profiles_of(rows))


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize(("shrinkage", "needed"), [("oas", 2), (0, 4)])
def test_too_few_controls_are_an_error_with_the_number_needed(
    n: int, shrinkage: Rule, needed: int
) -> None:
    with pytest.raises(DataError, match=f"has {n} control wells and needs at least {needed}"):
        Sphering(shrinkage=shrinkage).fit(
            profiles_of(correlated(20, 3)), controls=np.arange(20) < n
        )


def test_features_on_very_different_scales_keep_their_rank() -> None:
    rows = correlated(40, 3) * [1e-6, 1, 1e6]
    assert Sphering(method="ZCA-cor", shrinkage=0).fit(profiles_of(rows)).fitted_.rank == 3
    rows[:, 1] = 7
    with pytest.raises(DataError, match=r"1 features do not vary .* such as f1"):
        Sphering(method="ZCA-cor").fit(profiles_of(rows))


def test_it_fits_on_moments_of_cells() -> None:
    rows = correlated(80, 4)
    cells = CellMoments(["f0", "f1", "f2", "f3"])
    cells.add({"Metadata_Plate": "P1"}, rows[:50])
    cells.add({"Metadata_Plate": "P2"}, rows[50:])
    wells = profiles_of(correlated(6, 4, seed=2))
    by_cells = Sphering().fit(wells, cells=cells)
    by_rows = Sphering().fit(profiles_of(rows))
    np.testing.assert_allclose(
        by_cells.transform(wells).features, by_rows.transform(wells).features, atol=1e-10
    )
    assert (by_cells.fitted_.n, by_cells.fitted_.unit) == (80, "cells")
    with pytest.raises(ValueError, match="method='SVD'"):
        Sphering(method="SVD")
