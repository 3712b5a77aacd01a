"""Further evaluations of the real BBBC021 profiles, against copairs, SciPy and chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact
from test_bbbc021 import COMPOUND, COUNT, MECHANISM, MEMBERS, TREATMENT, bbbc021, controls_of

from deepprofiler.evaluation import (
    Ranking,
    enrichment,
    k_nearest_accuracy,
    mean_average_precision,
    nsc,
    percent_replicating,
    shuffled,
)
from deepprofiler.evaluation.retrieval import RandomRankings
from deepprofiler.profiling import Profiles, group_means

TREATED = {"treatment": TREATMENT, "compound": COMPOUND, "mechanism": MECHANISM, "controls": None}


@pytest.fixture(scope="module")
def wells(shared_data: Path) -> Profiles:
    """Standardized over the screen."""
    chosen = bbbc021.select(bbbc021.read_wells(shared_data / "bbbc021_profiles"))
    return bbbc021.normalized(bbbc021.METHODS["screen"], chosen)[0]


@pytest.fixture(scope="module")
def treatments(wells: Profiles) -> Profiles:
    treated = wells.subset(~controls_of(wells))
    return group_means(treated, [TREATMENT], count=COUNT, members=MEMBERS, weight="wells")


def test_replicates_are_retrieved_as_in_copairs(wells: Profiles, tmp_path: Path) -> None:
    copairs = pytest.importorskip("copairs.map")
    controls = controls_of(wells)
    marked = wells.metadata.assign(Metadata_Control=np.where(controls, "yes", "no"))
    scores = copairs.average_precision(
        marked,
        wells.features,
        pos_sameby=[TREATMENT],
        pos_diffby=[],
        neg_sameby=[],
        neg_diffby=["Metadata_Control"],
        progress_bar=False,
    )[~controls].reset_index(drop=True)
    size = 4000
    expected = copairs.mean_average_precision(
        scores, [TREATMENT], size, 0.05, 0, progress_bar=False, cache_dir=tmp_path
    )
    given = mean_average_precision(
        wells, Ranking(label=TREATMENT, negatives="controls"), controls=controls, permutations=size
    )
    assert given.n == 302
    # copairs computes similarities in single precision, so that a few near neighbours swap.
    apart = np.abs(given.queries["average_precision"] - scores["average_precision"])
    assert (apart < 1e-4).mean() > 0.98
    labels = given.labels
    assert labels["label"].tolist() == expected[TREATMENT].tolist()
    same = np.isclose(labels["average_precision"], expected["mean_average_precision"], atol=1e-4)
    assert same.sum() > 95
    # copairs counts the orders above the mean, and we also those that reach it.
    for label, row, theirs in zip(
        labels["label"][same], labels[same].itertuples(), expected["p_value"][same], strict=True
    ):
        queries = given.queries[given.queries["label"] == label]
        kind = queries["positives"].to_numpy(), queries["candidates"].to_numpy()
        above, _ = RandomRankings(size, 1).p_value(row.average_precision + 2e-4, *kind)
        error = 5 * np.sqrt(row.p_value * (1 - row.p_value) / size) + 2 / size
        assert above - error <= theirs <= row.p_value + error


def test_the_closest_pairs_share_mechanisms(treatments: Profiles) -> None:
    linked = {"compound": COMPOUND, "mechanism": MECHANISM, "controls": None}
    cosine = treatments.features / np.linalg.norm(treatments.features, axis=1, keepdims=True)
    cosine = cosine @ cosine.T
    first, second = np.triu_indices(103, 1)
    compounds, mechanisms = treatments.values(COMPOUND), treatments.values(MECHANISM)
    other = compounds[first] != compounds[second]
    first, second = first[other], second[other]
    same = mechanisms[first] == mechanisms[second]
    for percent in (1, 2, 5):
        top = cosine[first, second] > np.percentile(cosine[first, second], 100 - percent)
        odds, p = fisher_exact(pd.crosstab(~top, ~same).to_numpy(), alternative="greater")
        given = enrichment(treatments, **linked, percent=percent)
        assert given.n == 5123
        assert given.value == pytest.approx(odds)
        assert given.p_value == pytest.approx(p)
        assert given.by_compound.low > 10


def test_votes_are_right_and_with_permuted_mechanisms_at_chance(treatments: Profiles) -> None:
    assert len(treatments) == 103
    one = k_nearest_accuracy(treatments, **TREATED, k=1)
    assert one.value == nsc(treatments, **TREATED).value

    def three(given: Profiles):
        return k_nearest_accuracy(given, **TREATED, k=3)

    assert three(treatments).value > 0.85
    result = shuffled(three, treatments, MECHANISM, unit=COMPOUND, controls=None, times=30)
    assert abs(result.mean - result.chance) < 2.5 * result.standard_error


def test_mechanisms_are_retrieved_and_permuted_ones_at_chance(treatments: Profiles) -> None:
    ranking = Ranking(label=MECHANISM, differ=[COMPOUND], cluster=COMPOUND)

    def retrieve(given: Profiles):
        return mean_average_precision(given, ranking, controls=None)

    found = retrieve(treatments)
    assert found.value > 5 * found.chance
    assert found.retrieved.value == 1
    # Doses of one compound rank together, so that all treatments would score a little above it.
    compounds = group_means(treatments, [COMPOUND], count=COUNT, members=MEMBERS)
    permuted = {"unit": COMPOUND, "controls": None, "times": 60}
    result = shuffled(retrieve, compounds, MECHANISM, **permuted)
    assert len(compounds) == 38
    assert abs(result.mean - result.chance) < 2.5 * result.standard_error
    clumped = shuffled(retrieve, treatments, MECHANISM, **permuted)
    assert clumped.chance < clumped.mean < clumped.chance + 0.04


def test_most_treatments_replicate(wells: Profiles) -> None:
    result = percent_replicating(wells, treatment=TREATMENT, controls=controls_of(wells))
    assert (result.n, result.total) == (103, 103)
    assert result.exact.low > 0.8
