"""Differences of accuracies, and the list of wrong matches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deepprofiler.evaluation import NoteCode, bootstrap, difference, nsc, nscb
from deepprofiler.profiling import Profiles

TREATMENT, COMPOUND, MECHANISM = "Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism"
BATCH = "Metadata_Batch"
NAMES = {"treatment": TREATMENT, "compound": COMPOUND, "mechanism": MECHANISM, "controls": None}


def at_angles(degrees: list[float], mechanisms: str, batches: str | None = None) -> Profiles:
    """Profiles on a circle, of one compound each."""
    angle = np.deg2rad(degrees)
    names = [f"T{i}" for i in range(len(degrees))]
    columns = {TREATMENT: names, COMPOUND: names, MECHANISM: list(mechanisms)}
    if batches:
        columns[BATCH] = list(batches)
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Profiles(pd.DataFrame(columns), features, ["x", "y"])


def test_the_drop_of_a_table_made_by_hand() -> None:
    profiles = at_angles([0, 1, 10, 40, 41, 100], "AABBBA", "112122")
    same = nsc(profiles, **NAMES)
    other = nscb(profiles, **NAMES, batch=BATCH)
    # NSC: T0 and T1 find each other, T3 and T4 too; T2 (B) finds T1 (A), T5 (A) finds T4 (B).
    assert same.units["right"].tolist() == [1, 1, 0, 1, 1, 0]
    # NSCB: T0 and T1 find T2 (B), T2 finds T1 (A), T3 and T4 each other, T5 (A) finds T3 (B).
    assert other.units["right"].tolist() == [0, 0, 0, 1, 1, 0]
    drop = difference(same, other, name="drop")
    assert drop.value == pytest.approx(2 / 6 - 4 / 6)
    assert (drop.n, drop.null) == (6, "NSCB of 6 less NSC of 6")
    (note,) = drop.notes
    assert note.code == NoteCode.IN_BOTH
    assert note.values == {"difference": pytest.approx(-1 / 3), "count": 6, "unit": "treatments"}


def test_a_difference_on_the_same_units_is_a_paired_bootstrap() -> None:
    rng = np.random.default_rng(0)
    mechanisms = "".join(rng.permutation(list("ABCD" * 8)))
    one, two = (nsc(at_angles(rng.uniform(0, 360, 32).tolist(), mechanisms), **NAMES) for _ in "ab")
    found = difference(one, two, name="gain")
    apart = two.units["right"] - one.units["right"]
    # Compounds are sorted by name in both.
    expected = bootstrap(apart.to_numpy(), one.units["cluster"].to_numpy())
    assert (found.by_compound.low, found.by_compound.high) == pytest.approx(
        (expected.low, expected.high)
    )
    nothing = difference(one, one, name="none")
    assert (nothing.value, nothing.by_compound.low, nothing.by_compound.high) == (0, 0, 0)


def test_units_that_count_only_once_are_told() -> None:
    profiles = at_angles([0, 1, 40, 41, 42], "AABBB", "11121")
    drop = difference(nsc(profiles, **NAMES), nscb(profiles, **NAMES, batch=BATCH), name="drop")
    # T0 and T1 have no partner in another batch.
    assert drop.null == "NSCB of 3 less NSC of 5"
    assert drop.n == 3
    # A draw of T0 and T1 only has no NSCB.
    assert 0 < drop.by_compound.undefined < drop.by_compound.draws == 2000
    assert (drop.by_compound.method, drop.by_compound.clusters) == ("bootstrap", 5)


def test_wrong_matches_are_listed_the_most_similar_first() -> None:
    result = nsc(at_angles([0, 1, 10, 40, 41, 100], "AABBBA"), **NAMES)
    assert result.wrong.drop(columns="similarity").to_dict("list") == {
        "unit": ["T2", "T5"],
        "label": ["B", "A"],
        "nearest": ["T1", "T4"],
        "nearest_label": ["A", "B"],
        "right": [0, 0],
    }
    np.testing.assert_allclose(result.wrong["similarity"], np.cos(np.deg2rad([9, 59])))


def test_of_tied_neighbours_the_wrong_one_is_listed() -> None:
    result = nsc(at_angles([10, 0, 20, 120], "AABB"), **NAMES)
    # T0 has T1 (A) and T2 (B) equally near.
    assert result.wrong.set_index("unit").loc["T0", ["nearest", "right"]].tolist() == ["T2", 0.5]
    assert result.confusion.loc["A"].to_dict() == {"A": 1.5, "B": 0.5}
