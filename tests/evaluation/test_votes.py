"""Votes of tied neighbours against a walk through all orders, and k-NN against scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from deepprofiler.evaluation import NoteCode, k_nearest_accuracy, nsc
from deepprofiler.evaluation.accuracy import random_vote, vote
from deepprofiler.profiling import Profiles

TREATMENT, COMPOUND, MECHANISM = "Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism"
NAMES = {"treatment": TREATMENT, "compound": COMPOUND, "mechanism": MECHANISM}


def by_all_orders(similarity: np.ndarray, codes: np.ndarray, count: int, k: int) -> np.ndarray:
    """Put the tied in every order, let the first k vote, share among the labels with most."""
    chances, orders = np.zeros(count), 0
    for order in itertools.permutations(range(len(codes))):
        if (np.diff(similarity[list(order)]) > 0).any():
            continue
        votes = np.bincount(codes[list(order[:k])], minlength=count)
        winners = votes == votes.max()
        chances += winners / winners.sum()
        orders += 1
    return chances / orders


def test_a_vote_is_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(0)
    for _ in range(25):
        similarity = rng.integers(0, 3, 6).astype(float)
        codes = rng.integers(0, 3, 6)
        for k in (1, 2, 3, 5, 9):
            expected = by_all_orders(similarity, codes, 4, k)
            np.testing.assert_allclose(vote(similarity[None], codes, 4, k)[0], expected)


def test_who_is_not_allowed_does_not_vote() -> None:
    similarity = np.array([[3, 2, 1, -np.inf, -np.inf]])
    codes = np.array([0, 1, 1, 2, 2])
    np.testing.assert_allclose(vote(similarity, codes, 3, 9)[0], [0, 1, 0])


def test_the_vote_of_random_candidates() -> None:
    """As if all were tied."""
    codes = np.array([0, 0, 1, 1, 1, 2])
    allowed = np.ones((1, 6), bool)
    for k in (1, 2, 3, 4):
        expected = by_all_orders(np.zeros(6), codes, 3, k)
        for own in range(3):
            given = random_vote(allowed, (codes == own)[None], codes, k)
            assert given[0] == pytest.approx(expected[own])


def screen(seed: int = 0, *, levels: int | None = None) -> Profiles:
    """Mechanisms of three compounds with two doses each, in five dimensions."""
    rng = np.random.default_rng(seed)
    compound = np.repeat(np.arange(18), 2)
    mechanism = compound // 3
    features = rng.normal(size=(6, 5))[mechanism] + rng.normal(0, 0.9, (36, 5))
    if levels:
        features = np.round(features * levels) / levels
    metadata = pd.DataFrame(
        {
            COMPOUND: [f"c{c}" for c in compound],
            TREATMENT: [f"c{c} dose {i % 2}" for i, c in enumerate(compound)],
            MECHANISM: [f"m{m}" for m in mechanism],
        }
    )
    return Profiles(metadata, features, list("abcde"))


def test_one_neighbour_is_nsc() -> None:
    for profiles in (screen(), screen(levels=1)):
        metric = "euclidean"
        one = k_nearest_accuracy(profiles, **NAMES, k=1, controls=None, metric=metric)
        same = nsc(profiles, **NAMES, controls=None, metric=metric)
        assert one.value == same.value
        assert one.chance == same.chance
        assert (one.by_compound, one.exact) == (same.by_compound, same.exact)
        pd.testing.assert_frame_equal(one.confusion, same.confusion)


@pytest.mark.parametrize("k", [3, 5])
def test_neighbours_vote_as_in_scikit_learn(k: int) -> None:
    """Where one mechanism has most votes; scikit-learn takes the first of equals."""
    profiles = screen()
    labels, compounds = profiles.values(MECHANISM), profiles.values(COMPOUND)
    expected = cross_val_predict(
        KNeighborsClassifier(k), profiles.features, labels, groups=compounds, cv=LeaveOneGroupOut()
    )
    result = k_nearest_accuracy(profiles, **NAMES, k=k, controls=None, metric="euclidean")
    assert result.name == f"{k}-NN"
    clear = np.isin(result.queries["right"], [0, 1])
    assert clear.sum() > 20
    np.testing.assert_array_equal(
        result.queries["right"][clear], (expected == labels).astype(float)[clear]
    )
    np.testing.assert_allclose(result.confusion.to_numpy().sum(axis=1), 6)


def test_more_neighbours_than_there_are() -> None:
    """All 34 of other compounds vote: 4 of the own mechanism, 6 of each other one."""
    result = k_nearest_accuracy(screen(), **NAMES, k=99, controls=None)
    assert result.value == result.chance == 0
    with pytest.raises(ValueError, match="k=0; it must be at least 1"):
        k_nearest_accuracy(screen(), **NAMES, k=0, controls=None)


def test_identical_profiles_vote_at_chance() -> None:
    profiles = screen()
    same = profiles.with_features(np.ones_like(profiles.features), profiles.names)
    result = k_nearest_accuracy(same, **NAMES, k=3, controls=None)
    assert result.value == pytest.approx(result.chance)
    assert NoteCode.ALL_TIED in [note.code for note in result.notes]
