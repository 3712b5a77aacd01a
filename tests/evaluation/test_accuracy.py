"""Accuracies against tables made by hand and a plain loop, votes against all orders of ties."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from deepprofiler.errors import DataError
from deepprofiler.evaluation import (
    Accuracy,
    NoteCode,
    Reason,
    gene_accuracy,
    k_nearest_accuracy,
    nsc,
    nscb,
    replicate_accuracy,
    shuffled,
)
from deepprofiler.evaluation.accuracy import random_vote, vote
from deepprofiler.profiling import Profiles

TREATMENT, COMPOUND, MECHANISM = "Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism"
BATCH, PLATE = "Metadata_Batch", "Metadata_Plate"
NAMES = {"treatment": TREATMENT, "compound": COMPOUND, "mechanism": MECHANISM}


def at_angles(degrees: list[float], **columns: Any) -> Profiles:
    """Profiles on a circle, of lengths that cosine must not see."""
    angle = np.deg2rad(degrees)
    length = np.arange(1, len(degrees) + 1)[:, None]
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1) * length
    return Profiles(
        pd.DataFrame({f"Metadata_{name}": values for name, values in columns.items()}),
        features,
        ["x", "y"],
    )


@pytest.fixture
def table() -> Profiles:
    """B's nearest is E, of a mechanism of its own; DMSO lies between A and B."""
    return at_angles(
        [0, 1, 10, 40, 43, 12, 5],
        Treatment=["A 1", "A 2", "B 1", "C 1", "D 1", "E 1", "DMSO"],
        Compound=["A", "A", "B", "C", "D", "E", "DMSO"],
        Mechanism=["M1", "M1", "M1", "M2", "M2", "M3", ""],
    )


def left_out(result: Accuracy) -> list[tuple[Any, ...]]:
    """Reason, count, total, unit and names of each note on what was left out."""
    return [
        tuple(note.values[key] for key in ("reason", "count", "total", "unit", "names"))
        for note in result.notes
        if note.code == NoteCode.LEFT_OUT
    ]


def controls_of(profiles: Profiles) -> np.ndarray:
    return profiles.values(COMPOUND) == "DMSO"


def test_nsc_of_a_table_made_by_hand(table: Profiles) -> None:
    result = nsc(table, **NAMES, controls=controls_of(table))
    assert (result.value, result.n, result.total) == (4 / 5, 5, 6)
    right = dict(zip(result.units["unit"], result.units["right"], strict=True))
    assert right == {"A 1": 1, "A 2": 1, "B 1": 0, "C 1": 1, "D 1": 1}
    assert result.left_out.to_dict("list") == {
        "unit": ["E 1"],
        "label": ["M3"],
        "reason": [Reason.NO_PARTNER],
    }
    assert left_out(result) == [(Reason.NO_PARTNER, 1, 6, "treatments", ("E 1",))]
    assert (result.notes[1].code, result.notes[1].values) == (NoteCode.CONTROLS, {"count": 1})
    assert result.confusion.loc["M1"].to_dict() == {"M1": 2, "M2": 0, "M3": 1}
    assert result.confusion.to_numpy().sum() == 5
    # Of A's four allowed neighbours one is right; of B's five two; of C's and D's five one.
    assert result.chance == pytest.approx((1 / 4 + 1 / 4 + 2 / 5 + 1 / 5 + 1 / 5) / 5)
    assert result.queries.set_index("unit").loc["A 1", "similarity"] == pytest.approx(
        np.cos(np.deg2rad(10))
    )


def test_controls_are_neither_queries_nor_neighbours(table: Profiles) -> None:
    """Even where they bear a mechanism and lie nearest."""
    named = table.with_column(MECHANISM, [*table.values(MECHANISM)[:-1], "M1"])
    for profiles in (table, named):
        result = nsc(profiles, **NAMES, controls=controls_of(profiles))
        assert 6 not in set(result.queries["row"]) | set(result.queries["neighbour"])
        assert (result.value, result.n) == (4 / 5, 5)


def test_treatments_without_a_mechanism_are_counted(table: Profiles) -> None:
    result = nsc(table, **NAMES, controls=None)
    assert (result.value, result.n) == (4 / 5, 5)
    assert (Reason.NO_LABEL, 1, 7, "treatments", ("DMSO",)) in left_out(result)
    assert result.notes[0].values["label"] == "mechanism"


def crossed() -> Profiles:
    compounds = ["A", "B", "C", "D"] * 2
    return at_angles(
        [0, 8, 30, 36, 20, 28, 50, 56],
        Treatment=compounds,
        Compound=compounds,
        Mechanism=["M1", "M1", "M2", "M2"] * 2,
        Batch=["1"] * 4 + ["2"] * 4,
    )


def test_nscb_of_a_fully_crossed_design_made_by_hand() -> None:
    result = nscb(crossed(), **NAMES, batch=BATCH, controls=None)
    right = result.queries.sort_values("row")["right"].tolist()
    #                A1 B1 C1 D1 A2 B2 C2 D2
    assert right == [1, 1, 0, 0, 0, 0, 1, 1]
    assert (result.value, result.n, result.total) == (0.5, 4, 4)
    assert result.chance == pytest.approx(1 / 3)
    assert result.confusion.to_numpy().sum() == pytest.approx(4)


def test_nscb_leaves_out_what_has_no_partner_in_another_batch() -> None:
    profiles = at_angles(
        [0, 10, 20, 90, 95, 15],
        Treatment=["A", "B", "A", "C", "D", "F"],
        Compound=["A", "B", "A", "C", "D", "F"],
        Mechanism=["M1", "M1", "M1", "M2", "M2", "M3"],
        Batch=["1", "1", "2", "1", "1", "2"],
    )
    result = nscb(profiles, **NAMES, batch=BATCH, controls=None)
    # Only A in batch 2 and B in batch 1 have a partner; A's nearest is B, B's nearest is F.
    assert result.units.set_index("unit")["right"].to_dict() == {"A": 1, "B": 0}
    assert left_out(result) == [(Reason.NO_PARTNER, 3, 5, "treatments", ("C", "D", "F"))]


def by_loops(profiles: Profiles, other_batch: bool) -> tuple[float, int]:
    """NSC or NSCB in the words of their definition."""
    unit = profiles.features / np.linalg.norm(profiles.features, axis=1, keepdims=True)
    rows, per_treatment = profiles.metadata.to_dict("records"), {}
    for i, query in enumerate(rows):
        allowed = [
            j
            for j, other in enumerate(rows)
            if other[COMPOUND] != query[COMPOUND]
            and (not other_batch or other[BATCH] != query[BATCH])
        ]
        if not any(rows[j][MECHANISM] == query[MECHANISM] for j in allowed):
            continue
        best = max(allowed, key=lambda j: unit[i] @ unit[j])
        hit = rows[best][MECHANISM] == query[MECHANISM]
        per_treatment.setdefault(query[TREATMENT], []).append(hit)
    return float(np.mean([np.mean(hits) for hits in per_treatment.values()])), len(per_treatment)


@pytest.mark.parametrize("seed", range(5))
def test_random_designs_agree_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    compound = rng.integers(0, 14, size=700)
    dose = rng.integers(0, 3, size=700)
    metadata = pd.DataFrame(
        {
            COMPOUND: [f"c{c}" for c in compound],
            TREATMENT: [f"c{c} {d}" for c, d in zip(compound, dose, strict=True)],
            MECHANISM: [f"m{c // 3}" for c in compound],
            # Confounded: a compound is in one or two of five batches.
            BATCH: [str((c + rng.integers(0, 2)) % 5) for c in compound],
        }
    )
    metadata = metadata.drop_duplicates([TREATMENT, BATCH])
    features = rng.normal(size=(len(metadata), 4)) + compound[metadata.index][:, None] * 0.02
    profiles = Profiles(metadata, features, list("abcd"))
    for other_batch in (False, True):
        score = nscb if other_batch else nsc
        batch = {"batch": BATCH} if other_batch else {}
        result = score(profiles, **NAMES, **batch, controls=None)
        assert (result.value, result.n) == pytest.approx(by_loops(profiles, other_batch))


def test_blocks_of_queries_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = crossed()
    whole = nscb(profiles, **NAMES, batch=BATCH, controls=None)
    monkeypatch.setattr("deepprofiler.evaluation.similarity.BLOCK", 3)
    parts = nscb(profiles, **NAMES, batch=BATCH, controls=None)
    pd.testing.assert_frame_equal(whole.queries, parts.queries)
    pd.testing.assert_frame_equal(whole.confusion, parts.confusion)


def test_tied_profiles_score_their_expectation_in_any_order() -> None:
    """Twelve identical profiles of three treatments."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(1, 7)), 12, axis=0)
    metadata = pd.DataFrame({TREATMENT: np.repeat(["T1", "T2", "T3"], 4)})
    for metric in ("cosine", "euclidean"):
        for _ in range(3):
            shuffle = Profiles(metadata.iloc[rng.permutation(12)], features, list("abcdefg"))
            result = replicate_accuracy(shuffle, treatment=TREATMENT, controls=None, metric=metric)
            assert result.value == pytest.approx(3 / 11)
            assert [note.code for note in result.notes] == [NoteCode.ALL_TIED]
            np.testing.assert_allclose(result.confusion.sum(axis=1), 4)


def test_a_broken_profile_is_refused_by_name(table: Profiles) -> None:
    features = table.features.copy()
    features[2, 1] = np.nan
    with pytest.raises(DataError, match=r"1 of 6 profiles .* Treatment B 1, .*: y is nan"):
        nsc(table.with_features(features, table.names), **NAMES, controls=controls_of(table))
    features[2] = 0
    zero = table.with_features(features, table.names)
    with pytest.raises(DataError, match=r"1 of 6 .* cosine .* Treatment B 1"):
        nsc(zero, **NAMES, controls=controls_of(table))
    assert nsc(zero, **NAMES, controls=controls_of(table), metric="euclidean").n == 5
    # A broken control takes no part and does not matter.
    features[:] = table.features
    features[6] = np.nan
    fine = table.with_features(features, table.names)
    assert nsc(fine, **NAMES, controls=controls_of(table)).n == 5


def test_missing_partners_and_columns_are_said(table: Profiles) -> None:
    """T2 is only in batch 1, and its neighbour must be of another batch."""
    profiles = at_angles(
        [0, 1, 40, 41, 80, 81],
        Treatment=["T1", "T1", "T2", "T2", "T3", "T3"],
        Batch=["1", "2", "1", "1", "1", "2"],
    )
    result = replicate_accuracy(
        profiles, treatment=TREATMENT, controls=None, differ=[BATCH], unit=TREATMENT
    )
    assert left_out(result) == [(Reason.NO_PARTNER, 1, 3, "treatments", ("T2",))]
    assert result.n == 2
    by_well = replicate_accuracy(profiles, treatment=TREATMENT, controls=None, differ=[BATCH])
    assert left_out(by_well) == [(Reason.NO_PARTNER, 2, 6, "profiles", ("T2",))]
    labels = (by_well.notes[0].values[key] for key in ("labels_left_out", "labels", "label"))
    assert tuple(labels) == (1, 3, "treatment")
    assert by_well.n == 4
    with pytest.raises(DataError, match="nearest is `Metadata_Compound"):
        nsc(
            table,
            treatment=TREATMENT,
            compound="Metadata_Cmpound",
            mechanism=MECHANISM,
            controls=None,
        )
    with pytest.raises(DataError, match="replicate accuracy is undefined: of 2 profiles"):
        replicate_accuracy(
            profiles.subset([2, 3]), treatment=TREATMENT, controls=None, differ=[BATCH]
        )


def test_replicate_accuracy_of_wells_made_by_hand() -> None:
    profiles = at_angles(
        [0, 2, 3, 50, 52, 1],
        Treatment=["T1", "T1", "T2", "T2", "T2", "DMSO"],
        Compound=["T1", "T1", "T2", "T2", "T2", "DMSO"],
        Plate=["P1", "P2", "P1", "P1", "P2", "P1"],
    )
    controls = controls_of(profiles)
    result = replicate_accuracy(profiles, treatment=TREATMENT, controls=controls)
    assert result.queries["right"].tolist() == [1, 0, 0, 1, 1]
    assert (result.value, result.n) == (3 / 5, 5)
    other = replicate_accuracy(profiles, treatment=TREATMENT, controls=controls, differ=[PLATE])
    # 0° → 2°, 2° → 3°, 3° → 2°, 50° → 52°, 52° → 50°.
    assert other.queries["right"].tolist() == [1, 0, 0, 1, 1]
    assert other.queries["neighbour"].tolist() == [1, 2, 1, 4, 3]


def test_gene_accuracy_excludes_genes_of_one_variant() -> None:
    profiles = at_angles(
        [0, 1, 10, 60, 62, 11, 30],
        Variant=["EGFR-wt", "EGFR-wt", "EGFR-mut", "RAS-a", "RAS-b", "TP53", "RAS-b"],
        Gene=["EGFR", "EGFR", "EGFR", "RAS", "RAS", "TP53", "RAS"],
    )
    result = gene_accuracy(
        profiles, variant="Metadata_Variant", gene="Metadata_Gene", controls=None
    )
    # 0° and 1° → 10°; 10° → 11° (TP53, wrong); 60° ↔ 62°; 30° → 11° (wrong).
    assert result.queries["right"].tolist() == [1, 1, 0, 1, 1, 0]
    assert (result.value, result.n, result.total) == (4 / 6, 6, 7)
    assert left_out(result) == [(Reason.NO_PARTNER, 1, 7, "profiles", ("TP53",))]
    assert (result.notes[0].values["labels_left_out"], result.notes[0].values["labels"]) == (1, 3)


def test_shuffled_mechanisms_score_at_chance() -> None:
    rng = np.random.default_rng(0)
    compound = np.repeat(np.arange(36), 3)
    metadata = pd.DataFrame(
        {
            COMPOUND: [f"c{c}" for c in compound] + ["DMSO"],
            TREATMENT: [f"c{c} {i}" for i, c in enumerate(compound)] + ["DMSO"],
            MECHANISM: [f"m{c // 6}" for c in compound] + [""],
        }
    )
    center = rng.normal(size=(6, 10))[compound // 6]
    features = np.vstack([center + rng.normal(0, 0.5, center.shape), np.ones(10)])
    profiles = Profiles(metadata, features, list("abcdefghij"))
    controls = controls_of(profiles)

    def score(given: Profiles) -> Any:
        assert given.values(MECHANISM)[-1] == ""
        assert given.metadata.groupby(COMPOUND)[MECHANISM].nunique().max() == 1
        return nsc(given, **NAMES, controls=controls)

    assert score(profiles).value > 0.9
    result = shuffled(score, profiles, MECHANISM, unit=COMPOUND, controls=controls, times=100)
    # Of the 35 other compounds 5 share the mechanism.
    assert result.chance == pytest.approx(5 / 35)
    assert abs(result.mean - result.chance) < 2 * result.standard_error
    assert 0 < result.standard_error < 0.01
    two = profiles.with_column(MECHANISM, [f"m{i}" for i in range(len(profiles))])
    with pytest.raises(DataError, match="two values of Metadata_Mechanism"):
        shuffled(score, two, MECHANISM, unit=COMPOUND, controls=controls)


# Votes of tied neighbours.


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


def doses(seed: int = 0, *, levels: int | None = None) -> Profiles:
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
    for profiles in (doses(), doses(levels=1)):
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
    profiles = doses()
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
    result = k_nearest_accuracy(doses(), **NAMES, k=99, controls=None)
    assert result.value == result.chance == 0
    with pytest.raises(ValueError, match="k=0; it must be at least 1"):
        k_nearest_accuracy(doses(), **NAMES, k=0, controls=None)


def test_identical_profiles_vote_at_chance() -> None:
    profiles = doses()
    same = profiles.with_features(np.ones_like(profiles.features), profiles.names)
    result = k_nearest_accuracy(same, **NAMES, k=3, controls=None)
    assert result.value == pytest.approx(result.chance)
    assert NoteCode.ALL_TIED in [note.code for note in result.notes]
