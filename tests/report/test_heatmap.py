"""Clustered similarities and their heat map."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from deepprofiler.errors import DataError
from deepprofiler.report.heatmap import cluster, group_colours, heat_map


def families(seed=0):
    """Four families of five profiles around four directions, in any order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(4), 5))
    return 5 * np.eye(4, 12)[labels] + rng.normal(size=(20, 12)) * 0.3, labels


def test_families_lie_together():
    features, labels = families()
    clustered = cluster(features)
    assert sorted(clustered.order) == list(range(20))
    changes = np.diff(labels[clustered.order]) != 0
    assert changes.sum() == 3


def test_similarities_are_cosines_in_the_order():
    features, _ = families(1)
    clustered = cluster(features)
    for row, column in ((0, 19), (7, 3), (5, 5)):
        expected = 1 - cosine(features[clustered.order[row]], features[clustered.order[column]])
        assert clustered.similarity[row, column] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_few_profiles_keep_their_order(count):
    clustered = cluster(np.eye(3)[:count])
    assert clustered.order.tolist() == list(range(count))
    assert clustered.similarity == pytest.approx(np.eye(count))


def test_a_profile_without_direction_is_refused():
    with pytest.raises(DataError, match=r"1 of 3 profiles .*; the first one is row 1"):
        cluster(np.array([[1.0, 0], [0, 0], [0, 1]]))


def test_heat_map_has_one_scale_and_a_strip():
    features, labels = families()
    clustered = cluster(features)
    groups = [f"family {label}" if label else "" for label in labels[clustered.order]]
    figure = heat_map(clustered.similarity, [str(row) for row in clustered.order], groups)
    axes = figure.axes[0]
    (strip,) = axes.child_axes
    assert axes.images[0].get_clim() == (-1, 1)
    assert np.array_equal(axes.images[0].get_array(), clustered.similarity)
    shown = strip.images[0].get_array()[:, 0]
    assert len(np.unique(np.asarray(shown), axis=0)) == 4
    assert [label.get_text() for label in strip.get_yticklabels()] == list(
        map(str, clustered.order)
    )
    assert not heat_map(clustered.similarity, ["x"] * 20, [""] * 20).axes[0].child_axes
    with pytest.raises(DataError, match="19 names"):
        heat_map(clustered.similarity, ["x"] * 19, groups)


def test_the_most_frequent_groups_have_colours():
    groups = [f"g{index}" for index in range(10) for _ in range(10 - index)] + ["", ""]
    colours = group_colours(groups)
    assert list(colours) == [f"g{index}" for index in range(8)]
    assert len(set(colours.values())) == 8
