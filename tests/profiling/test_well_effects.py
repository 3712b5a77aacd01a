"""Well position and cell count, against planted effects and least squares."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deepprofiler.errors import DataError
from deepprofiler.profiling import CellCount, CellMoments, Profiles, WellPosition
from deepprofiler.profiling.chain import make_chain

PLATE, WELL, COUNT = "Metadata_Plate", "Metadata_Well", "Metadata_Cell_Count"


def plate(name: str, rows: int = 8, columns: int = 12, size: int = 3) -> Profiles:
    wells = [
        f"{chr(65 + row)}{column:02}" for row in range(rows) for column in range(1, columns + 1)
    ]
    metadata = pd.DataFrame({PLATE: name, WELL: wells})
    return Profiles(metadata, np.zeros((len(wells), size)), [f"f{i}" for i in range(size)])


def test_row_and_column_effects_are_taken_away_whatever_a_few_wells_do() -> None:
    rng = np.random.default_rng(0)
    first, second = plate("P1"), plate("P2", rows=16, columns=24)
    parts, truths = [], []
    for profiles, level, (rows, columns) in ((first, 5.0, (8, 12)), (second, -2.0, (16, 24))):
        row_effects = rng.normal(size=(rows, 1, 3))
        column_effects = rng.normal(size=(1, columns, 3))
        row_effects -= np.median(row_effects, axis=0)
        column_effects -= np.median(column_effects, axis=1, keepdims=True)
        hits = np.zeros((rows, columns, 3))
        hits[rng.integers(rows, size=5), rng.integers(columns, size=5)] = 9
        truths.append((level + hits).reshape(-1, 3))
        values = (level + hits + row_effects + column_effects).reshape(-1, 3)
        parts.append(profiles.with_features(values, profiles.names))
    both = Profiles.concat(parts)
    fitted = WellPosition(plate=PLATE, well=WELL).fit(both)
    given = fitted.transform(both)
    np.testing.assert_allclose(given.features, np.concatenate(truths), atol=1e-8)
    assert fitted.fitted_.n == {"P1": 96, "P2": 384}


def test_tukeys_own_example_by_hand() -> None:
    """A 3 × 3 table that one round settles: rows −1, 0, 4; columns −2, 0, 1; level 10."""
    rows, columns = np.array([-1.0, 0, 4]), np.array([-2.0, 0, 1])
    values = 10 + rows[:, None] + columns[None]
    values[0, 2] += 50
    profiles = plate("P1", 3, 3, 1).with_features(values.reshape(-1, 1), ["f0"])
    fitted = WellPosition(plate=PLATE, well=WELL).fit(profiles)
    assert {name: float(effect[0]) for name, effect in fitted.effects_["P1"].items()} == {
        "A": -1,
        "B": 0,
        "C": 4,
        "1": -2,
        "2": 0,
        "3": 1,
    }
    given = fitted.transform(profiles).features.reshape(3, 3)
    assert given[0, 2] == 60
    assert np.delete(given.ravel(), 2).tolist() == [10] * 8


def test_missing_wells_and_new_plates() -> None:
    profiles = plate("P1")
    rng = np.random.default_rng(1)
    profiles = profiles.with_features(rng.normal(size=(96, 3)), profiles.names)
    part = profiles.subset(np.arange(96) % 5 != 0)
    fitted = WellPosition(plate=PLATE, well=WELL).fit(part)
    assert fitted.covers(profiles).all()
    assert np.isfinite(fitted.transform(profiles).features).all()
    only_row_a = WellPosition(plate=PLATE, well=WELL).fit(profiles.subset(np.arange(96) < 12))
    assert only_row_a.covers(profiles).sum() == 12
    new = profiles.with_column(PLATE, "P9")
    with pytest.raises(DataError, match=r"cannot be applied to others: 96 of 96 .* Plate P9"):
        fitted.transform(new)
    with pytest.raises(DataError, match="'first' is not a row's letters"):
        fitted.transform(profiles.with_column(WELL, "first"))
    with pytest.raises(DataError, match="P1 has more than one profile of well A1; give one"):
        fitted.fit(Profiles.concat([profiles, profiles]))


def counted(n: int = 60) -> tuple[Profiles, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    counts = rng.integers(20, 500, size=n)
    controls = np.arange(n) < 40
    features = np.outer(np.log(counts), [2.0, -1.0]) + rng.normal(0, 0.1, (n, 2)) + [3, 4]
    features[~controls] += 7
    metadata = pd.DataFrame({PLATE: "P1", COUNT: counts})
    return Profiles(metadata, features, ["a", "b"]), controls, counts


def test_the_slope_on_log_count_is_that_of_least_squares_on_controls() -> None:
    profiles, controls, counts = counted()
    fitted = CellCount(count=COUNT).fit(profiles, controls=controls)
    logs = np.log(counts)
    for column in range(2):
        slope, _ = np.polyfit(logs[controls], profiles.features[controls, column], 1)
        assert fitted.slope_[column] == pytest.approx(slope)
    given = fitted.transform(profiles).features
    residual = np.corrcoef(logs[controls], given[controls].T)[0, 1:]
    np.testing.assert_allclose(residual, 0, atol=1e-10)
    np.testing.assert_allclose(
        given[controls].mean(axis=0), profiles.features[controls].mean(axis=0)
    )
    # What treated wells have beside their cell count stays.
    effect = given[~controls].mean(axis=0) - given[controls].mean(axis=0)
    np.testing.assert_allclose(effect, 7, atol=0.1)
    assert (fitted.fitted_.n, fitted.fitted_.reference) == (40, "controls")


def test_counts_that_tell_nothing() -> None:
    profiles, controls, _ = counted()
    with pytest.raises(DataError, match="has 2 control wells and needs at least 3"):
        CellCount(count=COUNT).fit(profiles, controls=np.arange(60) < 2)
    with pytest.raises(DataError, match="all 40 control wells have the same number"):
        CellCount(count=COUNT).fit(profiles.with_column(COUNT, 100), controls=controls)
    with pytest.raises(DataError, match="is 0, and only a number above 0"):
        CellCount(count=COUNT).fit(profiles.with_column(COUNT, 0), controls=controls)
    with pytest.raises(DataError, match="holds text"):
        CellCount(count=COUNT).fit(profiles.with_column(COUNT, "100"), controls=controls)


def test_after_a_step_for_single_wells_the_next_is_fitted_on_wells() -> None:
    profiles, controls, _ = counted()
    cells = CellMoments(["a", "b"])
    cells.add({PLATE: "P1"}, profiles.features[controls])
    steps = [("cell-count", {}), ("tvn", {"shrinkage": 0.1})]
    chain = make_chain(steps, plate=PLATE, batch=PLATE, count=COUNT)
    chain.fit(profiles, controls=controls, cells=cells)
    assert (chain.steps[1].fitted_.n, chain.steps[1].fitted_.unit) == (40, "wells")
    only_tvn = make_chain(steps[1:], plate=PLATE, batch=PLATE).fit(profiles, cells=cells)
    summary = only_tvn.steps[0].fitted_
    assert (summary.n, summary.unit) == (40, "cells")
