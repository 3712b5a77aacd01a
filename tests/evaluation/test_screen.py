"""Screens: which wells take part, treatments, batches, and permuted labels."""

from __future__ import annotations

import numpy as np
import pytest
from small_screen import BATCH, COMPOUND, PLATES, ROLES, wells_of

from deepprofiler.columns import FLAG
from deepprofiler.evaluation import Screen
from deepprofiler.profiling import Profiles


@pytest.fixture(scope="module")
def screen() -> Screen:
    return Screen(wells_of(), ROLES)


def test_a_blank_batch_is_no_batch() -> None:
    wells = wells_of()
    batches = np.where(wells.values(BATCH) == "B1", "", wells.values(BATCH))
    screen = Screen(wells.with_column(BATCH, batches), ROLES)
    assert screen.batches == 1
    assert set(screen.treatments_by_batch.values(BATCH)) == {"B0"}


def test_small_wells_and_blank_compounds_of_a_screen() -> None:
    wells = wells_of()
    blank = np.where(wells.values(COMPOUND) == "c0", "", wells.values(COMPOUND))
    screen = Screen(wells.with_column(COMPOUND, blank), ROLES)
    assert len(screen.wells) == len(wells) - len(PLATES)
    assert not screen.wells.values(FLAG).any()
    # Two treatments without a compound are two compounds.
    assert {"c0 dose 0", "c0 dose 1"} <= set(screen.treatments.values(COMPOUND))
    assert len(screen.treatments) == 24
    assert len(screen.all_treatments) == 25
    bare = Screen(Profiles(wells.metadata.drop(columns=FLAG), wells.features, wells.names), ROLES)
    assert len(bare.wells) == len(wells)


@pytest.mark.parametrize(("role", "among"), [("mechanism", COMPOUND), ("treatment", None)])
def test_labels_are_permuted_among_what_has_one(screen: Screen, role: str, among: str) -> None:
    column = ROLES[role]
    for permuted in screen.permuted(role, 3):
        assert permuted.shuffled
        table, before = permuted.wells.metadata, screen.wells.metadata
        assert (table[column] != before[column]).any()
        assert sorted(table[column]) == sorted(before[column])
        controls = screen.controls
        assert (table[column][controls] == before[column][controls]).all()
        if among is not None:
            assert table.groupby(among)[column].nunique().max() == 1
