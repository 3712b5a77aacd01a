"""Average precision and its null against copairs, scikit-learn, closed forms and all orders."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control
from sklearn.metrics import average_precision_score

from deepprofiler.errors import DataError
from deepprofiler.evaluation import (
    Note,
    NoteCode,
    Ranking,
    Reason,
    clopper_pearson,
    mean_average_precision,
)
from deepprofiler.evaluation.retrieval import (
    RandomRankings,
    average_precision,
    random_average_precisions,
)
from deepprofiler.profiling import Profiles

TREATMENT, COMPOUND = "Metadata_Treatment", "Metadata_Compound"
PLATE = "Metadata_Plate"


def wells(seed: int = 0) -> Profiles:
    rng = np.random.default_rng(seed)
    treatment = np.array([f"T{i % 5}" for i in range(35)] + ["DMSO"] * 10)
    plate = np.array([f"P{i % 4}" for i in range(45)])
    features = rng.normal(size=(45, 6))
    features[:35] += np.repeat(rng.normal(size=(7, 1)), 5, axis=0)
    metadata = pd.DataFrame({TREATMENT: treatment, PLATE: plate})
    return Profiles(metadata, features, list("abcdef"))


def controls_of(profiles: Profiles) -> np.ndarray:
    return profiles.values(TREATMENT) == "DMSO"


def test_untied_rankings_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.normal(size=30)
        positive = rng.random(30) < 0.3
        positive[0] = True
        assert average_precision(scores, positive) == pytest.approx(
            average_precision_score(positive, scores)
        )


def test_tied_rankings_are_the_mean_over_all_orders() -> None:
    scores = np.array([3, 2, 2, 2, 2, 1, 1.0])
    positive = np.array([0, 1, 1, 0, 0, 1, 0], bool)
    values = []
    for middle in itertools.permutations(range(1, 5)):
        for last in itertools.permutations((5, 6)):
            order = positive[[0, *middle, *last]]
            precision = np.cumsum(order) / np.arange(1, 8)
            values.append(precision[order].mean())
    assert average_precision(scores, positive) == pytest.approx(np.mean(values))


def test_one_positive_tied_with_16_others() -> None:
    """0.202, not 1.0."""
    positive = np.arange(17) == 0
    assert average_precision(np.ones(17), positive) == pytest.approx((1 / np.arange(1, 18)).mean())
    assert average_precision(np.ones(17), positive) == pytest.approx(0.202, abs=5e-4)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("differ", [[], [PLATE]])
def test_untied_profiles_score_as_in_copairs(metric: str, differ: list[str]) -> None:
    copairs = pytest.importorskip("copairs.map")
    profiles = wells()
    treated = profiles.subset(~controls_of(profiles))
    expected = copairs.average_precision(
        treated.metadata,
        treated.features,
        pos_sameby=[TREATMENT],
        pos_diffby=differ,
        neg_sameby=[],
        neg_diffby=[TREATMENT, *differ],
        distance=metric,
        progress_bar=False,
    )
    given = mean_average_precision(
        profiles,
        Ranking(label=TREATMENT, differ=differ, metric=metric),
        controls=controls_of(profiles),
    )
    assert given.n == 35
    np.testing.assert_allclose(
        given.queries["average_precision"], expected["average_precision"], rtol=1e-5
    )
    np.testing.assert_array_equal(given.queries["positives"], expected["n_pos_pairs"])
    np.testing.assert_array_equal(given.queries["candidates"], expected["n_total_pairs"])


def test_against_controls_as_in_copairs() -> None:
    copairs = pytest.importorskip("copairs.map")
    profiles = wells(1)
    controls = controls_of(profiles)
    marked = profiles.metadata.assign(Metadata_Control=np.where(controls, "yes", "no"))
    expected = copairs.average_precision(
        marked,
        profiles.features,
        pos_sameby=[TREATMENT],
        pos_diffby=[],
        neg_sameby=[],
        neg_diffby=["Metadata_Control"],
        progress_bar=False,
    )["average_precision"][~controls]
    given = mean_average_precision(
        profiles, Ranking(label=TREATMENT, negatives="controls"), controls=controls
    )
    np.testing.assert_allclose(given.queries["average_precision"], expected, rtol=1e-5)
    assert given.notes[0] == Note(NoteCode.NEGATIVES, {"negatives": "controls"})


def test_the_negatives_decide_and_are_named() -> None:
    """Other compound 0.95, own replicate 0.90, four controls 0.10."""
    similarity = np.array([1, 0.9, 0.95, 0.1, 0.1, 0.1, 0.1])
    features = np.stack([similarity, np.sqrt(1 - similarity**2)], axis=1)
    metadata = pd.DataFrame({TREATMENT: ["T1", "T1", "T2", *["DMSO"] * 4]})
    profiles = Profiles(metadata, features, ["x", "y"])
    options = {"controls": controls_of(profiles), "queries": np.arange(7) == 0}
    for negatives, value in (("controls", 1.0), ("others", 0.5), ("both", 0.5)):
        ranking = Ranking(label=TREATMENT, negatives=negatives)
        result = mean_average_precision(profiles, ranking, **options)
        assert result.value == pytest.approx(value)
        assert result.negatives == negatives
    both = mean_average_precision(profiles, Ranking(label=TREATMENT, negatives="both"), **options)
    assert both.queries["candidates"].tolist() == [6]


def test_queries_and_candidates_can_be_chosen() -> None:
    """Wells of one replicate look for their treatment among the other replicates'."""
    treatment = ["T1", "T2", "T3"] * 4 + ["DMSO"]
    replicate = np.array([*np.repeat([1, 2, 3, 4], 3), 4])
    rng = np.random.default_rng(0)
    features = rng.normal(size=(13, 4))
    profiles = Profiles(pd.DataFrame({TREATMENT: treatment}), features, list("abcd"))
    result = mean_average_precision(
        profiles,
        Ranking(label=TREATMENT, metric="euclidean"),
        controls=controls_of(profiles),
        queries=replicate == 4,
        candidates=replicate < 4,
    )
    expected = []
    for query in (9, 10, 11):
        distance = np.linalg.norm(features[:9] - features[query], axis=1)
        truth = np.array(treatment[:9]) == treatment[query]
        expected.append(average_precision_score(truth, -distance))
    np.testing.assert_allclose(result.queries["average_precision"], expected)
    assert result.value == pytest.approx(np.mean(expected))
    assert result.queries["candidates"].tolist() == [9, 9, 9]
    assert (result.n, result.total) == (3, 3)


def test_random_profiles_score_at_chance() -> None:
    rng = np.random.default_rng(0)
    metadata = pd.DataFrame({TREATMENT: np.repeat([f"T{i}" for i in range(50)], 6)})
    profiles = Profiles(metadata, rng.normal(size=(300, 20)), [f"f{i}" for i in range(20)])
    result = mean_average_precision(profiles, Ranking(label=TREATMENT), controls=None)
    assert result.by_compound.low < result.chance < result.by_compound.high


def test_broken_or_lonely_profiles_never_score_one() -> None:
    profiles = wells()
    controls = controls_of(profiles)
    features = profiles.features.copy()
    features[3, 2] = np.nan
    broken = profiles.with_features(features, profiles.names)
    with pytest.raises(DataError, match="Treatment T3, Plate P3: c is nan"):
        mean_average_precision(broken, Ranking(label=TREATMENT), controls=controls)
    features[3] = 0
    with pytest.raises(DataError, match="cosine similarity is undefined"):
        mean_average_precision(
            profiles.with_features(features, profiles.names),
            Ranking(label=TREATMENT),
            controls=controls,
        )
    lonely = profiles.with_column(TREATMENT, ["alone", *profiles.values(TREATMENT)[1:]])
    result = mean_average_precision(lonely, Ranking(label=TREATMENT), controls=controls)
    assert result.left_out.to_dict("records") == [
        {"row": 0, "label": "alone", "reason": Reason.NO_PARTNER}
    ]
    note = result.notes[1]
    assert (note.code, note.values["reason"]) == (NoteCode.LEFT_OUT, Reason.NO_PARTNER)
    assert (note.values["count"], note.values["total"]) == (1, 35)
    assert note.values["names"] == ("alone",)
    with pytest.raises(DataError, match="none of 35 queries"):
        mean_average_precision(
            profiles, Ranking(label=TREATMENT), controls=controls, candidates=np.zeros(45, bool)
        )
    with pytest.raises(DataError, match="nearest is `Metadata_Treatment"):
        mean_average_precision(profiles, Ranking(label="Metadata_Tratment"), controls=None)


def test_profiles_without_a_label_are_counted() -> None:
    profiles = wells()
    names = profiles.values(TREATMENT).copy()
    names[:4] = ""
    ranking, controls = Ranking(label=TREATMENT), controls_of(profiles)
    found = mean_average_precision(
        profiles.with_column(TREATMENT, names), ranking, controls=controls
    )
    others = mean_average_precision(
        profiles.subset(np.arange(45) >= 4), ranking, controls=controls[4:]
    )
    assert found.value == others.value
    assert (found.n, found.total) == (31, 35)
    note = found.notes[1]
    assert (note.values["reason"], note.values["count"]) == (Reason.NO_LABEL, 4)
    assert (note.values["total"], note.values["label"]) == (35, "treatment")
    assert found.retrieved.total == 5


def test_p_values_need_draws() -> None:
    for permutations in (0, -1):
        with pytest.raises(ValueError, match=f"permutations={permutations}"):
            mean_average_precision(
                wells(), Ranking(label=TREATMENT), controls=None, permutations=permutations
            )


def test_negatives_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="negatives='all'; choose others, controls or both"):
        Ranking(label=TREATMENT, negatives="all")


# The null of random rankings.


def triplicates(strength: float, *, treatments: int = 12, seed: int = 0) -> Profiles:
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


def precision_of(ranks: tuple[int, ...]) -> float:
    return float(np.mean([(i + 1) / rank for i, rank in enumerate(ranks)]))


def test_few_rankings_are_enumerated() -> None:
    values, exact = random_average_precisions(2, 5, 10, np.random.default_rng(0))
    expected = [precision_of(ranks) for ranks in itertools.combinations(range(1, 6), 2)]
    assert exact
    np.testing.assert_allclose(np.sort(values), np.sort(expected))


def test_many_rankings_are_drawn_from_the_same_distribution() -> None:
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
    profiles = triplicates(0.7)
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
    profiles = triplicates(2.0)
    given = mean_average_precision(
        profiles, Ranking(label=TREATMENT, negatives="controls"), controls=controls_of(profiles)
    )
    assert given.null == (
        "negatives: negative controls; null: candidates in random order, all orders where these "
        "are at most 20,000, else 10,000 draws"
    )
    assert given.normalized.null == given.retrieved.null == given.null
    assert given.labels["exact"].all()
    profiles = triplicates(2.0, treatments=20)
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


def test_normalized_is_zero_by_chance_and_one_at_best() -> None:
    strong, noise = triplicates(30.0), triplicates(0.0, treatments=80)
    best = mean_average_precision(strong, Ranking(label=TREATMENT), controls=controls_of(strong))
    assert best.value == best.normalized.value == 1
    assert best.retrieved.value == 1
    assert best.retrieved.exact == clopper_pearson(12, 12)
    random = mean_average_precision(noise, Ranking(label=TREATMENT), controls=controls_of(noise))
    interval = random.normalized.by_compound
    assert interval.low < 0 < interval.high
    assert random.retrieved.value <= 2 / 80


def test_tied_profiles_are_not_significant() -> None:
    """A constant output looks like a random one."""
    profiles = triplicates(1.0)
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
            for given in (triplicates(0.0, treatments=80, seed=seed) for seed in range(4))
        ]
    )
    assert (p_values < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 320)


def test_the_bootstrap_draws_what_is_named() -> None:
    profiles = triplicates(1.0)
    controls = controls_of(profiles)
    by_label = mean_average_precision(profiles, Ranking(label=TREATMENT), controls=controls)
    assert (by_label.by_compound.method, by_label.by_compound.clusters) == ("bootstrap", 12)
    by_compound = mean_average_precision(
        profiles, Ranking(label=TREATMENT, cluster=COMPOUND), controls=controls
    )
    assert by_compound.by_compound.clusters == 2
