"""Clustered similarities, and wells that stand apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from deepprofiler.errors import DataError
from deepprofiler.evaluation.outliers import outlying
from deepprofiler.report.heatmap import cluster, group_colours, heat_map


def families(seed=0):
    """Four families of five profiles around four directions, in any order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(4), 5))
    return 5 * np.eye(4, 12)[labels] + rng.normal(size=(20, 12)) * 0.3, labels


def test_families_lie_together():
    features, labels = families()
    found = cluster(features)
    assert sorted(found.order) == list(range(20))
    changes = np.diff(labels[found.order]) != 0
    assert changes.sum() == 3


def test_similarities_are_cosines_in_the_order():
    features, _ = families(1)
    found = cluster(features)
    for row, column in ((0, 19), (7, 3), (5, 5)):
        expected = 1 - cosine(features[found.order[row]], features[found.order[column]])
        assert found.similarity[row, column] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_few_profiles_keep_their_order(count):
    found = cluster(np.eye(3)[:count])
    assert found.order.tolist() == list(range(count))
    assert found.similarity == pytest.approx(np.eye(count))


def test_a_profile_without_angle_is_refused():
    with pytest.raises(DataError, match="1 of 3 profiles have no angle, the first is row 1"):
        cluster(np.array([[1.0, 0], [0, 0], [0, 1]]))


def test_heat_map_has_one_scale_and_a_strip():
    features, labels = families()
    found = cluster(features)
    groups = [f"family {label}" if label else "" for label in labels[found.order]]
    figure = heat_map(found.similarity, [str(row) for row in found.order], groups)
    axes = figure.axes[0]
    (strip,) = axes.child_axes
    assert axes.images[0].get_clim() == (-1, 1)
    assert np.array_equal(axes.images[0].get_array(), found.similarity)
    shown = strip.images[0].get_array()[:, 0]
    assert len(np.unique(np.asarray(shown), axis=0)) == 4
    assert [label.get_text() for label in strip.get_yticklabels()] == list(map(str, found.order))
    assert not heat_map(found.similarity, ["x"] * 20, [""] * 20).axes[0].child_axes
    with pytest.raises(DataError, match="19 names"):
        heat_map(found.similarity, ["x"] * 19, groups)


def test_the_most_frequent_groups_have_colours():
    groups = [f"g{index}" for index in range(10) for _ in range(10 - index)] + ["", ""]
    colours = group_colours(groups)
    assert list(colours) == [f"g{index}" for index in range(8)]
    assert len(set(colours.values())) == 8


def test_outliers_by_plate():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 50), rng.normal(100, 1, 50)])
    values[[3, 60]] = [9, 88]
    values[70] = np.nan
    plates = ["P"] * 50 + ["Q"] * 50
    assert np.flatnonzero(outlying(values, plates)).tolist() == [3, 60]
    # Four robust standard deviations: 4 times 1.4826 times the median distance, 1 here, from 0.
    steps = np.array([-1, 1] * 10 + [0, -5.9, 5.95])
    assert np.flatnonzero(outlying(steps, ["P"] * 23)).tolist() == [22]


def test_few_or_equal_wells_have_no_outliers():
    assert not outlying([0.0] * 6 + [1.0], ["P"] * 7).any()
    assert not outlying([0.0] * 9 + [1.0], ["P"] * 10).any()
