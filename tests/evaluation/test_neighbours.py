"""Nearest neighbours of profiles, and the table of nearest treatments."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_screen import COMPOUND, MECHANISM, NAMES, ROLES, TREATMENT, wells_of

from deepprofiler.evaluation import Screen, nearest_profiles, neighbours_table, nsc
from deepprofiler.profiling import Profiles


def test_neighbours_are_listed_in_order() -> None:
    angle = np.deg2rad([0, 1, 10, 40, 43, 12, 5])
    metadata = pd.DataFrame(
        {
            TREATMENT: ["A 1", "A 2", "B 1", "C 1", "D 1", "E 1", "DMSO"],
            COMPOUND: ["A", "A", "B", "C", "D", "E", "DMSO"],
            MECHANISM: ["M1", "M1", "M1", "M2", "M2", "M3", ""],
        }
    )
    table = Profiles(metadata, np.stack([np.cos(angle), np.sin(angle)], axis=1), ["x", "y"])
    listed = nearest_profiles(
        table,
        name=TREATMENT,
        controls=table.values(COMPOUND) == "DMSO",
        differ=[COMPOUND],
        count=2,
        shown=[MECHANISM],
    )
    first = listed[listed[TREATMENT] == "A 2"]
    assert first[f"neighbour_{TREATMENT}"].tolist() == ["B 1", "E 1"]
    assert first["rank"].tolist() == [1, 2]
    np.testing.assert_allclose(first["similarity"], np.cos(np.deg2rad([9, 11])))
    assert first[f"neighbour_{MECHANISM}"].tolist() == ["M1", "M3"]
    assert "DMSO" not in set(listed[TREATMENT]) | set(listed[f"neighbour_{TREATMENT}"])
    assert len(listed) == 12
    assert nearest_profiles(table.subset([0]), name=TREATMENT, controls=None).empty


def test_nearest_treatments() -> None:
    screen = Screen(wells_of(), ROLES)
    neighbours = neighbours_table(screen)
    assert len(neighbours) == 24 * 5
    first = neighbours[neighbours["rank"] == 1]
    assert set(first["treatment"]) == set(screen.treatments.values(TREATMENT))
    matched = (first["group"] == first["neighbour_group"]).mean()
    assert matched == pytest.approx(nsc(screen.treatments, **NAMES, controls=None).value)
    same = [a.split()[0] == b.split()[0] for a, b in neighbours[["treatment", "neighbour"]].values]
    assert not any(same)
    roles = {role: column for role, column in ROLES.items() if role != "mechanism"}
    ungrouped = neighbours_table(Screen(wells_of(), roles))
    assert set(ungrouped["group"]) == set(ungrouped["neighbour_group"]) == {""}
    pd.testing.assert_frame_equal(
        ungrouped.drop(columns=["group", "neighbour_group"]),
        neighbours.drop(columns=["group", "neighbour_group"]),
    )
    broken = wells_of()
    broken.features[0, 0] = np.nan
    assert neighbours_table(Screen(broken, ROLES)).empty
