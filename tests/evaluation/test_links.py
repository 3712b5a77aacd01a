"""Enrichment against SciPy, scikit-learn and a table made by hand; precision and recall at k."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact, hypergeom

from deepprofiler.errors import DataError
from deepprofiler.evaluation import (
    Note,
    NoteCode,
    Reason,
    enrichment,
    k_nearest_accuracy,
    precision_recall,
    shuffled,
)
from deepprofiler.profiling import Profiles

TREATMENT, COMPOUND, MECHANISM = "Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism"
LINKED = {"compound": COMPOUND, "mechanism": MECHANISM, "controls": None}
NAMES = LINKED | {"treatment": TREATMENT}


def screen(seed: int = 0, spread: float = 0.8) -> Profiles:
    """Mechanisms of four compounds with two doses each."""
    rng = np.random.default_rng(seed)
    compound = np.repeat(np.arange(24), 2)
    features = rng.normal(size=(6, 8))[compound // 4] + rng.normal(0, spread, (48, 8))
    metadata = pd.DataFrame(
        {
            COMPOUND: [f"c{c}" for c in compound],
            TREATMENT: [f"c{c} {i}" for i, c in enumerate(compound)],
            MECHANISM: [f"m{c // 4}" for c in compound],
        }
    )
    return Profiles(metadata, features, list("abcdefgh"))


def at_angles(degrees: list[float], mechanisms: list[str]) -> Profiles:
    angle = np.deg2rad(degrees)
    names = [f"T{i}" for i in range(len(degrees))]
    metadata = pd.DataFrame({TREATMENT: names, COMPOUND: names, MECHANISM: mechanisms})
    return Profiles(metadata, np.stack([np.cos(angle), np.sin(angle)], axis=1), ["x", "y"])


@pytest.mark.parametrize("percent", [1, 5, 20])
def test_the_original_definition(percent: float) -> None:
    """Above NumPy's percentile, and SciPy's test: as in the original's notebooks."""
    profiles = screen()
    correlation = np.corrcoef(profiles.features)
    labels, compounds = profiles.values(MECHANISM), profiles.values(COMPOUND)
    first, second = np.triu_indices(48, 1)
    other = compounds[first] != compounds[second]
    first, second = first[other], second[other]
    similarity, same = correlation[first, second], labels[first] == labels[second]
    top = similarity > np.percentile(similarity, 100 - percent)
    table = np.array(
        [[(top & same).sum(), (top & ~same).sum()], [(~top & same).sum(), (~top & ~same).sum()]]
    )
    odds, p = fisher_exact(table, alternative="greater")
    given = enrichment(profiles, **LINKED, percent=percent, metric="correlation")
    np.testing.assert_array_equal(given.table, table)
    assert given.value == pytest.approx(odds)
    assert given.p_value == pytest.approx(p)
    assert given.n == 48 * 46 / 2
    assert given.precision == pytest.approx(same[top].mean())
    assert given.base == pytest.approx(same.mean())
    assert given.by_compound.low < given.value < given.by_compound.high


def test_enrichment_of_a_table_made_by_hand() -> None:
    """Six pairs; the closest two are 0-1 (shared) and 2-3 (not)."""
    profiles = at_angles([0, 2, 60, 63], ["M1", "M1", "M1", "M2"])
    given = enrichment(profiles, **LINKED, percent=40)
    # Of five gaps 40 % are two pairs: of three that share a mechanism one is in the top.
    assert given.table.to_numpy().tolist() == [[1, 1], [2, 2]]
    assert given.value == 1
    assert "Fisher" in given.null


def test_tied_pairs_count_by_expectation() -> None:
    """All pairs tied: any top is as good as any other."""
    profiles = at_angles([0] * 6, ["M1", "M1", "M1", "M2", "M2", "M3"])
    given = enrichment(profiles, **LINKED, percent=20)
    # 15 pairs, 4 of a common mechanism; 3 places.
    assert given.value == pytest.approx(1)
    np.testing.assert_allclose(given.table, [[0.8, 2.2], [3.2, 8.8]])
    expected = sum(
        hypergeom.pmf(a, 15, 4, 3)
        * fisher_exact([[a, 3 - a], [4 - a, 8 + a]], alternative="greater").pvalue
        for a in range(4)
    )
    assert given.p_value == pytest.approx(expected)
    assert Note(NoteCode.TIED_PAIRS, {"count": 15, "total": 3}) in given.notes


def test_a_perfect_top_has_infinite_odds() -> None:
    profiles = at_angles([0, 1, 90, 91, 180, 181], ["M1", "M1", "M2", "M2", "M3", "M3"])
    given = enrichment(profiles, **LINKED, percent=20)
    assert given.table.to_numpy().tolist() == [[3, 0], [0, 12]]
    assert given.value == np.inf
    assert given.p_value == pytest.approx(1 / 455)  # 15 choose 3
    assert given.by_compound.high == np.inf
    closest = {"count": 3, "total": 3, "share": 0.2, "label": "mechanism"}
    assert given.notes == (
        Note(NoteCode.CLOSEST_PAIRS, closest),
        Note(NoteCode.DEPENDENT_PAIRS),
    )


def test_shuffled_mechanisms_are_not_enriched() -> None:
    profiles = screen()

    def precision(given: Profiles):
        result = enrichment(given, **LINKED, percent=5, times=10)
        return type("Share", (), {"value": result.precision, "chance": result.base})

    result = shuffled(precision, profiles, MECHANISM, unit=COMPOUND, controls=None, times=100)
    assert abs(result.mean - result.chance) < 2 * result.standard_error


def test_undefined_enrichment_is_refused() -> None:
    with pytest.raises(DataError, match="of 3 pairs of different compounds 0 share"):
        enrichment(at_angles([0, 1, 2], ["M1", "M2", "M3"]), **LINKED)
    with pytest.raises(DataError, match="of 1 pairs of different compounds 1 share"):
        enrichment(at_angles([0, 1], ["M1", "M1"]), **LINKED)
    with pytest.raises(ValueError, match="percent"):
        enrichment(screen(), **LINKED, percent=0)


def test_precision_and_recall_by_loops() -> None:
    profiles = screen(1)
    labels, compounds = profiles.values(MECHANISM), profiles.values(COMPOUND)
    distance = np.linalg.norm(profiles.features[:, None] - profiles.features[None], axis=2)
    for k in (1, 5, 50):
        precision, recall = [], []
        for query in range(48):
            others = np.flatnonzero(compounds != compounds[query])
            ranked = others[np.argsort(distance[query, others])]
            right = labels[ranked] == labels[query]
            precision.append(right[:k].mean())
            recall.append(right[:k].sum() / right.sum())
        found = precision_recall(profiles, **NAMES, k=k, metric="euclidean")
        assert [one.value for one in found] == pytest.approx([np.mean(precision), np.mean(recall)])
        assert [one.name for one in found] == [f"precision at {k}", f"recall at {k}"]
        # Of 46 others 6 share the mechanism.
        assert [one.chance for one in found] == pytest.approx([6 / 46, min(k, 46) / 46])
        assert found[0].by_compound.low <= found[0].value <= found[0].by_compound.high


def test_tied_neighbours_are_found_by_expectation() -> None:
    profiles = at_angles([0] * 5, ["M1", "M1", "M1", "M2", "M3"])
    precision, recall = precision_recall(profiles, **NAMES, k=2)
    assert (precision.value, recall.value) == pytest.approx((2 / 4, 2 / 4))
    assert (precision.n, precision.total) == (3, 5)
    (note,) = precision.notes
    assert (note.values["reason"], note.values["names"]) == (Reason.NO_PARTNER, ("T3", "T4"))
    assert (note.values["count"], note.values["total"]) == (2, 5)
    with pytest.raises(DataError, match="precision and recall are undefined: of 2 profiles"):
        precision_recall(profiles.subset([3, 4]), **NAMES)


def test_broken_profiles_and_misspelt_columns_are_refused() -> None:
    profiles = screen()
    features = profiles.features.copy()
    features[3, 2] = np.nan
    broken = profiles.with_features(features, profiles.names)
    features = features.copy()
    features[3] = 0
    zero = profiles.with_features(features, profiles.names)
    for evaluate, names in (
        (enrichment, LINKED),
        (precision_recall, NAMES),
        (k_nearest_accuracy, NAMES),
    ):
        with pytest.raises(DataError, match=r"1 of 48 profiles .*: c is nan"):
            evaluate(broken, **names)
        with pytest.raises(DataError, match=r"1 of 48 .* so cosine similarity is undefined"):
            evaluate(zero, **names)
        with pytest.raises(DataError, match="nearest is `Metadata_Compound"):
            evaluate(profiles, **names | {"compound": "Metadata_Cmpound"})


def test_controls_have_no_links() -> None:
    """They are in no pair, and neighbours of no profile."""
    profiles = screen()
    controls = np.arange(48) < 2
    for evaluate, names in ((enrichment, LINKED), (precision_recall, NAMES)):
        given = evaluate(profiles, **names | {"controls": controls})
        expected = evaluate(profiles.subset(~controls), **names)
        for one, other in zip(np.atleast_1d(given), np.atleast_1d(expected), strict=True):
            assert (one.value, one.n, one.total) == (other.value, other.n, other.total)


def test_profiles_without_a_mechanism_are_told_apart_from_those_without_a_partner() -> None:
    profiles = Profiles(
        pd.DataFrame(
            {
                "Metadata_Treatment": list("ABCDE"),
                "Metadata_Compound": list("ABCDE"),
                "Metadata_Mechanism": ["m", "m", "n", "", ""],
            }
        ),
        np.random.default_rng(0).normal(size=(5, 3)),
        list("abc"),
    )
    precision, _ = precision_recall(profiles, **NAMES)
    reasons = [(note.values["reason"], note.values["names"]) for note in precision.notes]
    assert reasons == [(Reason.NO_LABEL, ("D", "E")), (Reason.NO_PARTNER, ("C",))]
    assert {note.values["total"] for note in precision.notes} == {5}
