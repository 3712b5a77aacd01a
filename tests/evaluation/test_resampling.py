"""Intervals against SciPy and the literature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from deepprofiler.evaluation import bootstrap, clopper_pearson


def test_the_published_interval() -> None:
    interval = clopper_pearson(84, 103)
    assert (round(interval.low, 2), round(interval.high, 2)) == (0.73, 0.89)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (3, 10), (84, 103)])
def test_it_is_scipys_exact_interval(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(0.95, method="exact")
    given = clopper_pearson(right, n)
    assert (given.low, given.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("right", "n"), [(0.5, 10), (83.999, 103), (84.001, 103), (102.5, 103)])
def test_a_fraction_lies_between_its_neighbours(right: float, n: int) -> None:
    """By the quantiles of the beta distribution that define the exact interval."""
    below, given, above = (clopper_pearson(k, n) for k in (int(right), right, int(right) + 1))
    assert below.low <= given.low <= above.low
    assert below.high <= given.high <= above.high
    tail = beta.cdf(given.low, right, n - right + 1), beta.sf(given.high, right + 1, n - right)
    assert tail == pytest.approx((0.025, 0.025))


def test_impossible_shares_are_refused() -> None:
    for right, n in ((5, 4), (-1, 4), (0, 0)):
        with pytest.raises(ValueError, match="must be between 0 and n"):
            clopper_pearson(right, n)


def test_the_bootstrap_draws_clusters() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(40), 10)
    outcomes = np.repeat(rng.random(40) < 0.7, 10).astype(float)
    interval = bootstrap(outcomes, clusters, times=4000)
    # Ten equal outcomes carry the information of one: the error is that of 40, not of 400.
    error = outcomes[::10].std() / np.sqrt(40)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert interval.low < outcomes.mean() < interval.high
    assert interval == bootstrap(outcomes, clusters, times=4000)


def test_one_cluster_has_no_spread() -> None:
    interval = bootstrap(np.array([0.0, 1.0]), np.array(["a", "a"]))
    assert (interval.low, interval.high) == (0.5, 0.5)
