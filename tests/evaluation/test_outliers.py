"""Wells that differ from the others of their plate."""

from __future__ import annotations

import numpy as np

from deepprofiler.evaluation.outliers import outlying


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
