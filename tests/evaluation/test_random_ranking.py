"""Chance, normalization and p-values of average precision: all orders, closed forms and copairs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from deepprofiler.evaluation import Ranking, clopper_pearson, mean_average_precision
from deepprofiler.evaluation.retrieval import RandomRankings, random_average_precisions
from deepprofiler.profiling import Profiles

TREATMENT, COMPOUND = "Metadata_Treatment", "Metadata_Compound"


def wells(strength: float, *, treatments: int = 12, seed: int = 0) -> Profiles:
    """Three wells a treatment, but for four of the first, and ten controls."""
    rng = np.random.default_rng(seed)
    names = np.array(
        ["T00", *np.repeat([f"T{i:02}" for i in range(treatments)], 3), *["DMSO"] * 10]
    )
    codes = np.unique(names, return_inverse=True)[1]
    features = strength * rng.normal(size=(treatments + 1, 6))[codes]
    features += rng.normal(size=features.shape)
    metadata = pd.DataFrame({TREATMENT: names, COMPOUND: [name[:2] for name in names]})
    return Profiles(metadata, features, list("abcdef"))


def controls_of(profiles: Profiles) -> np.ndarray:
    return profiles.values(TREATMENT) == "DMSO"


def precision_of(ranks: tuple[int, ...]) -> float:
    return float(np.mean([(i + 1) / rank for i, rank in enumerate(ranks)]))


def test_few_orders_are_gone_through() -> None:
    values, exact = random_average_precisions(2, 5, 10, np.random.default_rng(0))
    expected = [precision_of(ranks) for ranks in itertools.combinations(range(1, 6), 2)]
    assert exact
    np.testing.assert_allclose(np.sort(values), np.sort(expected))


def test_many_orders_are_drawn_from_the_same_law() -> None:
    """Against the closed form of the expectation (Bestgen 2015)."""
    positives, candidates = 5, 60
    values, exact = random_average_precisions(
        positives, candidates, 40_000, np.random.default_rng(0)
    )
    harmonic = (1 / np.arange(1, candidates + 1)).sum()
    expected = (
        (positives - 1) / (candidates - 1) * (candidates - harmonic) + harmonic
    ) / candidates
    assert not exact
    assert abs(values.mean() - expected) < 3 * values.std() / np.sqrt(40_000)


def test_an_exact_p_value() -> None:
    """One positive at place 2 of 8: two of eight places are as good."""
    orders = RandomRankings(1000, 0)
    assert orders.p_value(0.5, np.array([1]), np.array([8])) == (2 / 8, True)
    # Two queries of one kind share an order.
    assert orders.p_value(1.0, np.array([1, 1]), np.array([8, 8])) == (1 / 8, True)
    # Two kinds have orders of their own: both first in 1 of 8 × 5.
    p, exact = orders.p_value(1.0, np.array([1, 1]), np.array([8, 5]))
    assert not exact
    assert abs(p - 1 / 40) < 4 * np.sqrt(1 / 40 / 1000)


@pytest.mark.parametrize("negatives", ["others", "controls"])
def test_p_values_and_normalization_are_those_of_copairs(negatives: str, tmp_path: Path) -> None:
    """On untied profiles. copairs asks for more than the mean itself, here as much counts too."""
    copairs = pytest.importorskip("copairs.map")
    profiles = wells(0.7)
    controls = controls_of(profiles)
    marked = profiles.metadata.assign(Metadata_Control=np.where(controls, "yes", "no"))
    if negatives == "others":
        marked, features, against = marked[~controls], profiles.features[~controls], [TREATMENT]
    else:
        features, against = profiles.features, ["Metadata_Control"]
    scores = copairs.average_precision(
        marked.reset_index(drop=True),
        features,
        pos_sameby=[TREATMENT],
        pos_diffby=[],
        neg_sameby=[],
        neg_diffby=against,
        progress_bar=False,
    )
    scores = scores[scores[TREATMENT] != "DMSO"].reset_index(drop=True)
    size = 10_000
    expected = copairs.mean_average_precision(
        scores, [TREATMENT], size, 0.05, 0, progress_bar=False, cache_dir=tmp_path
    ).set_index(TREATMENT)
    given = mean_average_precision(
        profiles,
        Ranking(label=TREATMENT, negatives=negatives),
        controls=controls,
        permutations=size,
    )
    labels = given.labels.set_index("label").loc[expected.index]
    assert len(labels) == 12
    np.testing.assert_allclose(
        labels["average_precision"], expected["mean_average_precision"], rtol=1e-5
    )
    np.testing.assert_allclose(
        labels["normalized"], expected["mean_normalized_average_precision"], atol=1e-5
    )
    # copairs counts orders above the mean; with as many more as reach it exactly, the same p.
    error = 5 * np.sqrt(labels["p_value"] * (1 - labels["p_value"]) / size) + 2 / size
    for name, row in labels.iterrows():
        queries = given.queries[given.queries["label"] == name]
        orders = RandomRankings(size, 1)
        kind = queries["positives"].to_numpy(), queries["candidates"].to_numpy()
        above, _ = orders.p_value(row["average_precision"] + 1e-6, *kind)
        copairs_p = expected.loc[name, "p_value"]
        assert above - error[name] <= copairs_p <= row["p_value"] + error[name]
    np.testing.assert_allclose(
        labels["corrected_p_value"], false_discovery_control(labels["p_value"])
    )


def test_the_null_is_named() -> None:
    profiles = wells(2.0)
    given = mean_average_precision(
        profiles, Ranking(label=TREATMENT, negatives="controls"), controls=controls_of(profiles)
    )
    assert given.null == (
        "negatives: negative controls; null: candidates in random order, all orders where these "
        "are at most 20,000, else 10,000 draws"
    )
    assert given.normalized.null == given.retrieved.null == given.null
    assert given.labels["exact"].all()
    profiles = wells(2.0, treatments=20)
    both = mean_average_precision(
        profiles,
        Ranking(label=TREATMENT, negatives="both"),
        controls=controls_of(profiles),
        permutations=99,
    )
    assert "profiles of other labels and negative controls" in both.null
    assert both.null.endswith("else 99 draws")
    # Three of 70 have 54,740 orders, two of 69 have 2,346.
    assert both.labels["exact"].tolist() == [False] + [True] * 19


def test_normalized_is_nought_by_chance_and_one_at_best() -> None:
    strong, noise = wells(30.0), wells(0.0, treatments=80)
    best = mean_average_precision(strong, Ranking(label=TREATMENT), controls=controls_of(strong))
    assert best.value == best.normalized.value == 1
    assert best.retrieved.value == 1
    assert best.retrieved.exact == clopper_pearson(12, 12)
    random = mean_average_precision(noise, Ranking(label=TREATMENT), controls=controls_of(noise))
    interval = random.normalized.by_compound
    assert interval.low < 0 < interval.high
    assert random.retrieved.value <= 2 / 80


def test_tied_profiles_are_not_significant() -> None:
    """The case EVL-04: a constant output looks like a random one."""
    profiles = wells(1.0)
    same = profiles.with_features(np.ones_like(profiles.features), profiles.names)
    given = mean_average_precision(same, Ranking(label=TREATMENT), controls=controls_of(same))
    assert given.normalized.value == pytest.approx(0, abs=1e-9)
    assert given.labels["p_value"].min() > 0.2
    assert given.retrieved.value == 0


def test_p_values_of_noise_are_no_smaller_than_they_should_be() -> None:
    """Of 320 treatments without effect at most some 5 % have p below 0.05."""
    p_values = np.concatenate(
        [
            mean_average_precision(
                given, Ranking(label=TREATMENT, negatives="controls"), controls=controls_of(given)
            ).labels["p_value"]
            for given in (wells(0.0, treatments=80, seed=seed) for seed in range(4))
        ]
    )
    assert (p_values < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 320)


def test_the_bootstrap_draws_what_is_named() -> None:
    profiles = wells(1.0)
    controls = controls_of(profiles)
    by_label = mean_average_precision(profiles, Ranking(label=TREATMENT), controls=controls)
    assert (by_label.by_compound.method, by_label.by_compound.clusters) == ("bootstrap", 12)
    by_compound = mean_average_precision(
        profiles, Ranking(label=TREATMENT, cluster=COMPOUND), controls=controls
    )
    assert by_compound.by_compound.clusters == 2
