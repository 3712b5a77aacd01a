"""Rank-based normal scores and Harmony: scipy's quantiles, and JUMP's own recipe on real plates."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, skew

from deepprofiler.errors import ConfigError, DataError
from deepprofiler.profiling import Chain, Harmony, LeftOut, Profiles, RankNormal, Robust

PLATE, WELL = "Metadata_Plate", "Metadata_Well"


def screen(features: np.ndarray, plates: int = 1) -> Profiles:
    n = len(features)
    metadata = pd.DataFrame(
        {PLATE: [f"P{i % plates}" for i in range(n)], WELL: [f"W{i}" for i in range(n)]}
    )
    return Profiles(metadata, features, [f"f{i}" for i in range(features.shape[1])])


def test_ranks_become_normal_quantiles() -> None:
    values = np.array([10.0, -3, 10, 500, 7])
    given = RankNormal().fit(screen(values[:, None])).transform(screen(values[:, None]))
    # Ranks 3.5, 1, 3.5, 5, 2 of 5.
    expected = norm.ppf((np.array([3.5, 1, 3.5, 5, 2]) - 3 / 8) / 5.25)
    np.testing.assert_allclose(given.features[:, 0], expected)
    many = np.random.default_rng(0).lognormal(size=(2000, 1))
    scores = RankNormal().fit(screen(many)).transform(screen(many)).features
    assert abs(float(skew(scores[:, 0]))) < 1e-10
    assert scores.std() == pytest.approx(1, abs=0.005)


def test_missing_stays_missing_and_constants_are_left_out() -> None:
    features = np.array([[1.0, 5, np.nan], [2, 5, 3], [np.nan, 5, 1], [4, 5, 2]])
    fitted = RankNormal().fit(screen(features))
    given = fitted.transform(screen(features))
    assert given.names == ["f0", "f2"]
    assert fitted.left_out_ == {"f1": LeftOut("one-value", values={"n": 4})}
    np.testing.assert_array_equal(np.isnan(given.features), np.isnan(features[:, [0, 2]]))
    np.testing.assert_allclose(given.features[[0, 1, 3], 0], norm.ppf(np.array([5, 13, 21]) / 26))
    assert fitted.fitted_.missing == 2
    features[0, 0] = np.inf
    with pytest.raises(DataError, match="f0 is inf"):
        RankNormal().fit(screen(features))


def test_only_the_profiles_of_the_fit_can_be_asked_for() -> None:
    profiles = screen(np.random.default_rng(0).normal(size=(20, 2)), plates=2)
    fitted = RankNormal().fit(profiles.subset(np.arange(20) < 15))
    assert fitted.covers(profiles).sum() == 15
    backwards = profiles.subset(np.arange(14, -1, -1))
    np.testing.assert_array_equal(
        fitted.transform(backwards).features[::-1],
        fitted.transform(backwards.subset(range(14, -1, -1))).features,
    )
    with pytest.raises(DataError, match=r"rank-normal .* cannot be applied to others: 5 of 20"):
        fitted.transform(profiles)
    with pytest.raises(DataError, match="two have the same: Plate P0"):
        RankNormal().fit(Profiles.concat([profiles, profiles]))


@pytest.fixture(scope="module")
def jump(shared_data: Path) -> tuple[Profiles, Profiles, np.ndarray]:
    """Four raw plates, what JUMP's recipe made of them, and Harmony after it; rows in one order."""
    folder = shared_data / "jump_recipe"
    raw = Profiles.concat([Profiles.read(path) for path in sorted(folder.glob("inputs/*.parquet"))])
    recipe = Profiles.read(folder / "profiles_var_mad_int_featselect.parquet")
    mixed = Profiles.read(folder / "profiles_var_mad_int_featselect_harmony.parquet")
    keys = [PLATE, WELL]
    assert (recipe.metadata[keys] == mixed.metadata[keys]).all(axis=None)
    place = {key: rows[0] for key, rows in raw.groups(keys)}
    order = [place[key] for key in recipe.metadata[keys].itertuples(index=False, name=None)]
    return raw.subset(order), recipe, mixed.features


def test_jumps_recipe(jump: tuple[Profiles, Profiles, np.ndarray]) -> None:
    """Per-plate median and unscaled MAD over all wells, then rank-based normal scores."""
    raw, recipe, _ = jump
    chain = Chain([Robust(plate=PLATE, per="plate", reference="all", unscaled=True), RankNormal()])
    given = chain.fit(raw).transform(raw)
    assert given.names == recipe.names
    np.testing.assert_allclose(given.features, recipe.features, atol=0.02)


def test_jumps_harmony(jump: tuple[Profiles, Profiles, np.ndarray]) -> None:
    _, recipe, mixed = jump
    pytest.importorskip("harmonypy", reason="needs the extra harmony")
    fitted = Harmony(batch=PLATE, clusters=300, iterations=20).fit(recipe)
    given = fitted.transform(recipe).features
    for column in range(3):
        assert np.corrcoef(given[:, column], mixed[:, column])[0, 1] >= 0.999
        assert np.corrcoef(recipe.features[:, column], mixed[:, column])[0, 1] < 0.9985
    assert (fitted.fitted_.n, fitted.fitted_.mixed) == (1536, {PLATE: 4})


def test_harmony_moves_batches_together() -> None:
    pytest.importorskip("harmonypy", reason="needs the extra harmony")
    rng = np.random.default_rng(0)
    kinds, plates = np.tile(np.arange(3), 200), np.repeat(["P1", "P2"], 300)
    centres = np.eye(4)[:3] * 10
    features = centres[kinds] + rng.normal(size=(600, 4))
    features[plates == "P2"] += [0, 0, 0, 4]
    profiles = screen(features).with_column(PLATE, plates)
    given = Harmony(batch=PLATE).fit(profiles).transform(profiles).features
    for kind in range(3):
        apart = [given[(kinds == kind) & (plates == plate)].mean(axis=0) for plate in ("P1", "P2")]
        assert np.linalg.norm(apart[0] - apart[1]) < 1
        assert np.linalg.norm(apart[0] - centres[kind]) < 3


def test_what_harmony_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("harmonypy", reason="needs the extra harmony")
    profiles = screen(np.random.default_rng(0).normal(size=(20, 2)), plates=2)
    with pytest.raises(DataError, match="one plate only"):
        Harmony(batch=PLATE).fit(profiles.with_column(PLATE, "P0"))
    with pytest.raises(DataError, match="30 clusters of 20 profiles"):
        Harmony(batch=PLATE, clusters=30).fit(profiles)
    with pytest.raises(ValueError, match="clusters=0"):
        Harmony(batch=PLATE, clusters=0)
    monkeypatch.setitem(sys.modules, "harmonypy", None)
    with pytest.raises(ConfigError, match=r'pip install -e ".*\[harmony\]"'):
        Harmony(batch=PLATE).fit(profiles)


def test_every_seed_of_a_config_is_taken() -> None:
    pytest.importorskip("harmonypy", reason="needs the extra harmony")
    rng = np.random.default_rng(0)
    places = [f"A{number}" for number in range(40)]
    metadata = pd.DataFrame({"Metadata_Batch": ["1", "2"] * 20, "Metadata_Well": places})
    profiles = Profiles(metadata, rng.normal(size=(40, 3)), ["a", "b", "c"])
    for seed in (2**31, 2**32 - 1):
        fitted = Harmony(batch="Metadata_Batch", clusters=2, seed=seed).fit(profiles)
        assert np.isfinite(fitted.transform(profiles).features).all()
