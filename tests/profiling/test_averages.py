"""Means of cells and wells, with counts that add up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deepprofiler.errors import DataError
from deepprofiler.profiling import (
    CellSample,
    Profiles,
    WellProfiles,
    cell_count_profiles,
    flag_small_wells,
    group_means,
    group_medians,
)

COUNT, MEMBERS = "Metadata_Cell_Count", "Metadata_Well_Count"


def wells(treatments: list[str], doses: list[str], counts: list[int]) -> Profiles:
    n = len(treatments)
    metadata = pd.DataFrame(
        {
            "Metadata_Well": [f"A{i:02}" for i in range(n)],
            "Metadata_Compound": treatments,
            "Metadata_Dose": doses,
            COUNT: counts,
        }
    )
    return Profiles(metadata, np.random.default_rng(0).normal(size=(n, 3)), ["a", "b", "c"])


def test_means_weighted_by_cells_are_the_mean_of_all_cells() -> None:
    rng = np.random.default_rng(0)
    cells = [rng.normal(3, 2, size=(n, 4)).astype(np.float32) for n in (5, 50, 1)]
    means = WellProfiles(list("abcd"), COUNT)
    for position, features in enumerate(cells):
        metadata = {"Metadata_Well": f"A0{position}", "Metadata_Treatment": "T"}
        assert means.add(metadata, features) == 0
    profiles, _ = means.finish()
    by_cells = group_means(profiles, ["Metadata_Treatment"], count=COUNT, members=MEMBERS)
    everything = np.concatenate(cells).astype(np.float64)
    np.testing.assert_allclose(by_cells.features[0], everything.mean(axis=0), rtol=1e-12)
    assert list(by_cells.values(COUNT)) == [56]
    assert list(by_cells.values(MEMBERS)) == [3]
    by_wells = group_means(
        profiles, ["Metadata_Treatment"], count=COUNT, members=MEMBERS, weight="wells"
    )
    expected = np.mean([one.astype(np.float64).mean(axis=0) for one in cells], axis=0)
    np.testing.assert_allclose(by_wells.features[0], expected, rtol=1e-12)


def test_medians_of_cells_and_of_sites() -> None:
    rng = np.random.default_rng(0)
    features = rng.lognormal(size=(61, 4)).astype(np.float32)
    sites = np.repeat(["1", "2", "10"], [50, 10, 1])
    features[3] = np.nan
    good = np.arange(61) != 3
    expected = {
        "median": np.median(features[good], axis=0),
        "site-medians": np.mean(
            [np.median(features[good & (sites == site)], axis=0) for site in ("1", "2", "10")],
            axis=0,
        ),
    }
    for statistic, truth in expected.items():
        gathered = WellProfiles(list("abcd"), COUNT, statistic)
        assert gathered.add({"Metadata_Well": "A01"}, features, sites) == 1
        profiles, _ = gathered.finish()
        np.testing.assert_allclose(profiles.features[0], truth, rtol=1e-6)
        assert list(profiles.values(COUNT)) == [60]
    with pytest.raises(ValueError, match="statistic='mode'; choose mean, median, site-medians"):
        WellProfiles(["a"], COUNT, "mode")
    with pytest.raises(ValueError, match="needs the site of each cell"):
        WellProfiles(["a"], COUNT, "site-medians").add({}, np.ones((2, 1)))


@pytest.mark.parametrize(
    "counts", [[1, 1, 1, 1, 1], [3, 1, 4, 2, 2], [1, 1, 5, 1, 1], [2, 2, 2, 2]]
)
def test_weighted_medians_are_those_of_repeated_wells(counts: list[int]) -> None:
    n = len(counts)
    profiles = wells(["T"] * n, [""] * n, counts)
    given = group_medians(profiles, ["Metadata_Compound"], count=COUNT, members=MEMBERS)
    expected = np.median(np.repeat(profiles.features, counts, axis=0), axis=0)
    np.testing.assert_allclose(given.features[0], expected)
    by_wells = group_medians(
        profiles, ["Metadata_Compound"], count=COUNT, members=MEMBERS, weight="wells"
    )
    np.testing.assert_allclose(by_wells.features[0], np.median(profiles.features, axis=0))
    assert (given.values(COUNT)[0], given.values(MEMBERS)[0]) == (sum(counts), n)


def test_a_well_without_cells_is_listed_and_is_no_profile() -> None:
    means = WellProfiles(["a", "b"], COUNT)
    means.add({"Metadata_Well": "A01"}, np.ones((2, 2), np.float32))
    means.add({"Metadata_Well": "A02"}, np.ones((0, 2), np.float32))
    profiles, table = means.finish()
    assert list(profiles.values("Metadata_Well")) == ["A01"]
    assert list(table["Metadata_Well"]) == ["A01", "A02"]
    assert list(table[COUNT]) == [2, 0]
    assert np.isfinite(profiles.features).all()


def test_cells_that_are_not_finite_are_left_out_and_counted() -> None:
    means = WellProfiles(["a", "b"], COUNT)
    features = np.array([[1, 2], [np.nan, 2], [3, np.inf], [3, 4]], np.float32)
    assert means.add({"Metadata_Well": "A01"}, features) == 2
    profiles, _ = means.finish()
    np.testing.assert_array_equal(profiles.features, [[2, 3]])
    assert list(profiles.values(COUNT)) == [2]


def test_wells_of_other_features_are_refused() -> None:
    with pytest.raises(DataError, match="same layers"):
        WellProfiles(["a", "b"], COUNT).add({"Metadata_Well": "A01"}, np.ones((3, 5)))


def test_no_wells_at_all() -> None:
    profiles, table = WellProfiles(["a"], COUNT).finish()
    assert len(profiles) == len(table) == 0
    with pytest.raises(DataError, match="no profiles"):
        group_means(profiles, [], count=COUNT, members=MEMBERS)


def test_blank_values_are_a_group_and_sizes_add_up() -> None:
    """4 DMSO wells without a dose, 4 of T1 at 1, 4 of T2 at 1."""
    names, doses = ["DMSO"] * 4 + ["T1"] * 4 + ["T2"] * 4, [""] * 4 + ["1"] * 8
    profiles = wells(names, doses, [10] * 12)
    by = ["Metadata_Compound", "Metadata_Dose"]
    grouped = group_means(profiles, by, count=COUNT, members=MEMBERS)
    assert list(grouped.values("Metadata_Compound")) == ["DMSO", "T1", "T2"]
    assert list(grouped.values("Metadata_Dose")) == ["", "1", "1"]
    assert list(grouped.values(MEMBERS)) == [4, 4, 4]
    assert grouped.values(MEMBERS).sum() == len(profiles)
    blank = group_means(
        wells(["", "", "T1"], ["", "", "1"], [1, 2, 3]), by[:1], count=COUNT, members=MEMBERS
    )
    assert list(blank.values("Metadata_Compound")) == ["", "T1"]
    assert list(blank.values(COUNT)) == [3, 3]


def test_metadata_that_varies_within_a_group_is_dropped() -> None:
    profiles = wells(["T1", "T1", "T2"], ["1", "1", "5"], [1, 1, 1])
    grouped = group_means(profiles, ["Metadata_Compound"], count=COUNT, members=MEMBERS)
    assert list(grouped.metadata.columns) == [
        "Metadata_Compound",
        "Metadata_Dose",
        COUNT,
        MEMBERS,
    ]


def test_small_wells_are_flagged_and_kept() -> None:
    flagged = flag_small_wells(
        wells(["T"] * 3, [""] * 3, [9, 10, 500]), count=COUNT, minimum=10, flag="Metadata_Few"
    )
    assert list(flagged.values("Metadata_Few")) == [True, False, False]
    assert len(flagged) == 3


def test_counts_must_be_numbers_above_zero() -> None:
    with pytest.raises(DataError, match="at least one cell"):
        group_means(wells(["T"], [""], [0]), [], count=COUNT, members=MEMBERS)
    text = wells(["T"], [""], [5]).with_column(COUNT, ["5"])
    with pytest.raises(DataError, match="holds text"):
        group_means(text, [], count=COUNT, members=MEMBERS)


def test_the_cell_count_is_a_profile() -> None:
    counted = cell_count_profiles(wells(["T"] * 2, [""] * 2, [3, 4]), count=COUNT)
    np.testing.assert_array_equal(counted.features, [[3], [4]])


def test_a_misspelt_weight_is_refused() -> None:
    found = wells(["T"], [""], [3])
    with pytest.raises(ValueError, match="weight='cell'; choose cells or wells"):
        group_means(found, [], count=COUNT, members=MEMBERS, weight="cell")


def drawn(wells: int, cells: int) -> Profiles:
    """A sample of wells of ten cells each, whose one feature tells well and cell."""
    sample = CellSample(wells, cells, seed=0)
    for well in range(wells):
        features = 100.0 * well + np.arange(10.0)[:, None]
        table = pd.DataFrame({"Metadata_Cell": np.arange(10)})
        sample.add(well, {"Metadata_Well": str(well)}, table, features)
    return sample.finish(["a"], ["Metadata_Well", "Metadata_Cell"])


@pytest.mark.parametrize(("wells", "cells", "per_well"), [(3, 12, 4), (3, 14, 4), (20, 5, 1)])
def test_cells_are_sampled_evenly(wells: int, cells: int, per_well: int) -> None:
    sample = drawn(wells, cells)
    counts = sample.metadata["Metadata_Well"].value_counts()
    assert set(counts) == {per_well}
    assert len(counts) == min(wells, cells)
    expected = 100 * sample.metadata["Metadata_Well"].astype(int) + sample.metadata["Metadata_Cell"]
    np.testing.assert_array_equal(sample.features[:, 0], expected)
    again = drawn(wells, cells)
    np.testing.assert_array_equal(again.features, sample.features)


def test_sampled_cells_are_finite() -> None:
    sample = CellSample(1, 4, seed=0)
    features = np.array([[1.0], [np.nan], [np.inf], [2.0]])
    sample.add(0, {"Metadata_Well": "A01"}, pd.DataFrame({"Metadata_Cell": range(4)}), features)
    assert sample.finish(["a"], []).metadata["Metadata_Cell"].tolist() == [0, 3]
    empty = CellSample(1, 4, seed=0)
    empty.add(0, {"Metadata_Well": "A01"}, pd.DataFrame({"Metadata_Cell": []}), features[:0])
    profiles = empty.finish(["a"], ["Metadata_Well", "Metadata_Cell"])
    assert list(profiles.metadata) == ["Metadata_Well", "Metadata_Cell"]
    assert profiles.features.shape == (0, 1)
