"""Percent replicating and silhouettes against NumPy, scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_score

from deepprofiler.errors import DataError
from deepprofiler.evaluation import (
    Note,
    NoteCode,
    Reason,
    clopper_pearson,
    percent_replicating,
    silhouette,
)
from deepprofiler.profiling import Profiles

TREATMENT, COMPOUND, BATCH = "Metadata_Treatment", "Metadata_Compound", "Metadata_Batch"


def wells(strength: float, *, treatments: int = 60, replicates: int = 4, seed: int = 0) -> Profiles:
    rng = np.random.default_rng(seed)
    names = np.repeat([f"T{i}" for i in range(treatments)], replicates)
    features = strength * np.repeat(rng.normal(size=(treatments, 12)), replicates, axis=0)
    features += rng.normal(size=features.shape)
    batch = np.tile([f"B{i}" for i in range(replicates)], treatments)
    metadata = pd.DataFrame({TREATMENT: names, COMPOUND: names, BATCH: batch})
    return Profiles(metadata, features, [f"f{i}" for i in range(12)])


def test_medians_are_those_of_numpy() -> None:
    profiles = wells(1.0)
    result = percent_replicating(profiles, treatment=TREATMENT, controls=None)
    correlation = np.corrcoef(profiles.features)
    for row in result.treatments.itertuples():
        members = np.flatnonzero(profiles.values(TREATMENT) == row.label)
        pairs = correlation[np.ix_(members, members)][np.triu_indices(4, 1)]
        assert row.median == pytest.approx(np.median(pairs), abs=1e-9)
        assert row.replicating == (row.median > row.threshold)
    right = result.treatments["replicating"].sum()
    assert result.value == right / 60
    assert result.exact == clopper_pearson(right, 60)
    assert "1000 draws of as many wells, all of different treatments" in result.null


def test_strong_treatments_replicate_and_noise_does_at_chance() -> None:
    assert percent_replicating(wells(4.0), treatment=TREATMENT, controls=None).value == 1
    noise = [
        percent_replicating(wells(0.0, seed=seed), treatment=TREATMENT, controls=None)
        for seed in range(8)
    ]
    values = [result.value for result in noise]
    # 480 treatments at 5 %: one standard error is 0.01.
    assert abs(np.mean(values) - 0.05) < 0.03
    assert noise[0].chance == pytest.approx(0.05)


def test_two_replicates_have_the_threshold_of_a_known_law() -> None:
    """The correlation of two independent normal vectors of 12: its law is Student's."""
    from scipy.stats import t

    critical = t.ppf(0.95, 10)
    expected = critical / np.sqrt(10 + critical**2)
    given = percent_replicating(
        wells(0.0, treatments=300, replicates=2), treatment=TREATMENT, controls=None, times=5000
    )
    assert given.treatments["threshold"].iloc[0] == pytest.approx(expected, abs=0.03)


def test_each_replicate_count_has_its_own_null() -> None:
    profiles = wells(1.0).subset(np.arange(240) >= 2)
    result = percent_replicating(profiles, treatment=TREATMENT, controls=None)
    thresholds = result.treatments.groupby("replicates")["threshold"].first()
    # A median of one pair scatters more than one of six.
    assert thresholds[2] > thresholds[4]
    lonely = wells(1.0).subset(np.arange(240) >= 3)
    result = percent_replicating(lonely, treatment=TREATMENT, controls=None)
    assert (result.n, result.total) == (59, 60)
    (note,) = result.notes
    assert note.code == NoteCode.LEFT_OUT
    assert (note.values["reason"], note.values["names"]) == (Reason.NO_REPLICATE, ("T0",))
    assert (note.values["count"], note.values["total"]) == (1, 60)
    few = wells(1.0, treatments=3)
    with pytest.raises(DataError, match="of 3 treatments none has replicates and enough"):
        percent_replicating(few, treatment=TREATMENT, controls=None)


def test_controls_take_no_part() -> None:
    profiles = wells(1.0)
    controls = profiles.values(TREATMENT) == "T0"
    broken = profiles.features.copy()
    broken[controls] = np.nan
    given = profiles.with_features(broken, profiles.names)
    result = percent_replicating(given, treatment=TREATMENT, controls=controls)
    assert "T0" not in set(result.treatments["label"])
    assert result.total == 59
    with pytest.raises(DataError, match="f0 is nan"):
        percent_replicating(given, treatment=TREATMENT, controls=None)
    constant = profiles.with_features(np.full_like(broken, 0.1), profiles.names)
    with pytest.raises(DataError, match="the same in every feature, so correlation"):
        percent_replicating(constant, treatment=TREATMENT, controls=None)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_silhouette_is_scikit_learns(metric: str) -> None:
    profiles = wells(1.5, treatments=10)
    result = silhouette(profiles, by=TREATMENT, metric=metric)
    expected = silhouette_score(profiles.features, profiles.values(TREATMENT), metric=metric)
    assert result.value == pytest.approx(expected)
    assert (result.n, result.name) == (40, "silhouette by treatment")


def test_a_correction_mixes_batches() -> None:
    profiles = wells(1.0, treatments=30)
    shift = 3 * np.random.default_rng(1).normal(size=(4, 12))
    codes = np.unique(profiles.values(BATCH), return_inverse=True)[1]
    shifted = profiles.with_features(profiles.features + shift[codes], profiles.names)
    centred = shifted.features.copy()
    for code in range(4):
        centred[codes == code] -= centred[codes == code].mean(axis=0)
    corrected = shifted.with_features(centred, profiles.names)
    before, after = (silhouette(given, by=BATCH) for given in (shifted, corrected))
    assert before.value > 0.3
    assert abs(after.value) < 0.05
    assert silhouette(corrected, by=TREATMENT).value > silhouette(shifted, by=TREATMENT).value


def test_an_undefined_silhouette_is_refused() -> None:
    profiles = wells(1.0, treatments=3)
    with pytest.raises(DataError, match=r"12 profiles are of 1 batch\(s\)"):
        silhouette(profiles.with_column(BATCH, "B"), by=BATCH)
    blank = profiles.with_column(BATCH, [""] * 4 + ["B1", "B2"] * 4)
    result = silhouette(blank, by=BATCH)
    assert (result.n, result.total) == (8, 12)
    alone = profiles.with_column(BATCH, ["B1"] + ["B2"] * 11)
    assert silhouette(alone, by=BATCH).notes == (Note(NoteCode.SINGLETONS, {"count": 1}),)
    rows = np.arange(12) < 6
    assert silhouette(profiles, by=TREATMENT, rows=rows).n == 6


def test_wells_without_a_treatment_are_no_replicates() -> None:
    profiles = wells(0.0, treatments=10)
    alone = percent_replicating(profiles, treatment=TREATMENT, controls=None)
    blank = wells(0.0, treatments=2, seed=1)
    blank = blank.subset(np.zeros(8, int)).with_column(TREATMENT, "").with_column(COMPOUND, "")
    both = percent_replicating(
        Profiles.concat([profiles, blank]), treatment=TREATMENT, controls=None
    )
    assert (both.n, both.value) == (alone.n, alone.value)
    assert "" not in set(both.treatments["label"])
    with pytest.raises(ValueError, match="times=0"):
        percent_replicating(profiles, treatment=TREATMENT, controls=None, times=0)
