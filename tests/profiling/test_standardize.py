"""Standardization against scikit-learn, and features that cannot be standardized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import median_abs_deviation
from sklearn.preprocessing import StandardScaler

from deepprofiler.errors import DataError, PluginError
from deepprofiler.profiling import (
    TVN,
    CellCount,
    CellMoments,
    Chain,
    Moments,
    Profiles,
    Robust,
    Sphering,
    Standardize,
    WellProfiles,
)
from deepprofiler.profiling.chain import make_chain
from deepprofiler.profiling.normalizer import LeftOut, PlateControls
from deepprofiler.profiling.standardize import LARGEST

PLATE = "Metadata_Plate"


def screen(plates: int, controls: int, treated: int, size: int = 4) -> tuple[Profiles, np.ndarray]:
    """Plates with a shift each; the first ``controls`` wells of each are controls."""
    rng = np.random.default_rng(0)
    wells = controls + treated
    plate = np.repeat([f"P{i}" for i in range(plates)], wells)
    features = rng.normal(size=(plates * wells, size)) * [1, 10, 0.1, 5][:size]
    features += np.repeat(rng.normal(size=plates), wells)[:, None]
    metadata = pd.DataFrame({PLATE: plate, "Metadata_Well": np.arange(len(plate)).astype(str)})
    names = [f"f{i + 1}" for i in range(size)]
    mask = np.tile(np.arange(wells) < controls, plates)
    return Profiles(metadata, features, names), mask


def wells_of(profiles: Profiles) -> list[str]:
    return list(profiles.values("Metadata_Well"))


def test_over_the_screen_it_is_scikit_learns_scaler() -> None:
    profiles, controls = screen(3, 6, 10)
    fitted = Standardize(plate=PLATE).fit(profiles, controls=controls)
    expected = StandardScaler().fit_transform(profiles.features)
    np.testing.assert_allclose(fitted.transform(profiles).features, expected, atol=1e-12)
    assert fitted.fitted_.fewest_controls == PlateControls("P0", 6)


def test_with_16_controls_everywhere_each_plate_is_scaled_by_its_own() -> None:
    profiles, controls = screen(3, 16, 4)
    fitted = Standardize(plate=PLATE).fit(profiles, controls=controls)
    given = fitted.transform(profiles)
    for (_,), rows in profiles.groups([PLATE]):
        reference = StandardScaler().fit(profiles.features[rows[controls[rows]]])
        np.testing.assert_allclose(
            given.features[rows], reference.transform(profiles.features[rows]), atol=1e-10
        )
    assert fitted.fitted_.n == {"P0": 16, "P1": 16, "P2": 16}


def test_one_poor_plate_pools_all_unless_plates_are_asked_for() -> None:
    profiles, controls = screen(2, 16, 4)
    controls[0] = False
    assert Standardize(plate=PLATE).fit(profiles, controls=controls).group_ is None
    forced = Standardize(plate=PLATE, per="plate").fit(profiles, controls=controls)
    assert forced.fitted_.n == {"P0": 15, "P1": 16}
    controls[:20] = False
    with pytest.raises(DataError, match="P0 has 0 wells to fit on and needs 2"):
        Standardize(plate=PLATE, per="plate").fit(profiles, controls=controls)


def test_undefined_features_are_left_out_and_listed() -> None:
    """One missing value, a constant, an infinite value."""
    profiles, controls = screen(1, 24, 1)
    features = profiles.features.copy()
    features[0, 1] = np.nan
    features[:, 2] = 1 / 3
    features[3, 3] = np.inf
    broken = profiles.with_features(features, profiles.names)
    fitted = Standardize(plate=PLATE).fit(broken, controls=controls)
    assert fitted.names_ == ["f1", "f2"]
    assert fitted.left_out_ == {
        "f3": LeftOut("no-spread", PLATE, "P0", {"equal": 24, "n": 24, "value": 1 / 3}),
        "f4": LeftOut("infinite", PLATE, "P0"),
    }
    given = fitted.transform(broken)
    assert given.names == ["f1", "f2"]
    reference = features[:24, 1]
    expected = (features[:, 1] - np.nanmean(reference)) / np.nanstd(reference)
    np.testing.assert_allclose(given.features[:, 1], expected, atol=1e-10)
    assert np.isnan(given.features).sum() == 1
    assert fitted.fitted_.missing == 1
    with pytest.raises(DataError, match="P0, Well 0: f2 is nan"):
        TVN().fit(given)


def test_a_feature_undefined_on_one_plate_is_left_out_on_all() -> None:
    profiles, controls = screen(2, 16, 2)
    features = profiles.features.copy()
    features[:16, 0] = 7
    fitted = Standardize(plate=PLATE).fit(
        profiles.with_features(features, profiles.names), controls=controls
    )
    assert fitted.left_out_ == {
        "f1": LeftOut("no-spread", PLATE, "P0", {"equal": 16, "n": 16, "value": 7})
    }


def test_the_reference_can_be_named() -> None:
    profiles, controls = screen(3, 6, 10)
    whole, own = profiles.features, profiles.features[controls]
    on_controls = Standardize(plate=PLATE, per="screen", reference="controls")
    given = on_controls.fit(profiles, controls=controls).transform(profiles).features
    np.testing.assert_allclose(given, StandardScaler().fit(own).transform(whole), atol=1e-10)
    summary = on_controls.fitted_
    assert (summary.reference, summary.group, summary.n) == ("controls", None, {"": 18})
    on_plates = Standardize(plate=PLATE, per="plate", reference="all").fit(
        profiles, controls=controls
    )
    for (plate,), rows in profiles.groups([PLATE]):
        expected = StandardScaler().fit_transform(whole[rows])
        mapped = on_plates.transform(profiles).features[rows]
        np.testing.assert_allclose(mapped, expected, atol=1e-10)
        assert on_plates.fitted_.n[plate] == 16
    summary = on_plates.fit(profiles).fitted_
    assert (summary.reference, summary.group) == ("all", PLATE)
    with pytest.raises(DataError, match="needs to know the negative controls"):
        on_controls.fit(profiles)
    with pytest.raises(ValueError, match="give per as well"):
        Standardize(reference="all")


@pytest.mark.parametrize("unscaled", [True, False])
def test_median_and_deviation_are_scipys(unscaled: bool) -> None:
    profiles, controls = screen(2, 20, 5)
    fitted = Robust(plate=PLATE, unscaled=unscaled).fit(profiles, controls=controls)
    given = fitted.transform(profiles).features
    for (_,), rows in profiles.groups([PLATE]):
        own = profiles.features[rows[controls[rows]]]
        spread = median_abs_deviation(own, scale=1.0 if unscaled else "normal")
        expected = (profiles.features[rows] - np.median(own, axis=0)) / spread
        # scipy writes the constant with fewer digits.
        np.testing.assert_allclose(given[rows], expected, rtol=1e-6)


def test_a_deviation_of_zero_is_undefined() -> None:
    """24 controls, and treated wells where f1 is 1."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4))
    features[:, 0] = np.repeat([0, 0.01, 1], [20, 4, 6])
    features[5, 1] = np.nan
    features[:, 3] = 2
    metadata = pd.DataFrame({PLATE: "P1", "Metadata_Well": [f"W{i}" for i in range(30)]})
    profiles = Profiles(metadata, features, ["f1", "f2", "f3", "f4"])
    controls = np.arange(30) < 24
    fitted = Robust(plate=PLATE).fit(profiles, controls=controls)
    assert fitted.left_out_ == {
        "f1": LeftOut("no-median-deviation", PLATE, "P1", {"equal": 20, "n": 24, "value": 0}),
        "f4": LeftOut("no-median-deviation", PLATE, "P1", {"equal": 24, "n": 24, "value": 2}),
    }
    given = fitted.transform(profiles)
    assert given.names == ["f2", "f3"]
    known = np.delete(features[:24, 1], 5)
    expected = (features[:, 1] - np.median(known)) / median_abs_deviation(known, scale="normal")
    np.testing.assert_allclose(given.features[:, 0], expected, rtol=1e-6)
    assert np.isnan(given.features).sum() == 1
    largest = fitted.fitted_.largest
    assert largest.value == np.nanmax(np.abs(given.features))
    row = wells_of(given).index(largest.profile["Metadata_Well"])
    assert abs(given.features[row, given.names.index(largest.feature)]) == largest.value
    features[29, 2] = 1e6
    huge = Robust(plate=PLATE).fit(profiles, controls=controls)
    largest = huge.fitted_.largest
    assert largest.value > LARGEST
    assert (largest.profile["Metadata_Well"], largest.feature) == ("W29", "f3")


def test_huge_values_are_reported() -> None:
    profiles, controls = screen(1, 16, 2)
    features = profiles.features.copy()
    features[17, 0] = 1e6
    fitted = Standardize(plate=PLATE).fit(
        profiles.with_features(features, profiles.names), controls=controls
    )
    largest = fitted.fitted_.largest
    assert largest.value > 1e5
    assert (largest.profile["Metadata_Well"], largest.feature) == ("17", "f1")


def test_nothing_defined_is_an_error() -> None:
    profiles, _ = screen(1, 3, 0)
    constant = profiles.with_features(np.ones((3, 4)), profiles.names)
    with pytest.raises(DataError, match="none of 4 features varies"):
        Standardize().fit(constant)


def test_new_features_and_new_plates_are_refused() -> None:
    profiles, controls = screen(2, 16, 2)
    fitted = Standardize(plate=PLATE).fit(profiles, controls=controls)
    with pytest.raises(DataError, match="2 differ, such as f4"):
        fitted.transform(profiles.with_features(profiles.features, ["f1", "f2", "f3", "f5"]))
    with pytest.raises(DataError, match="not fitted for plate 'P9'"):
        fitted.transform(profiles.with_column(PLATE, "P9"))
    with pytest.raises(DataError, match="call fit first"):
        Standardize().transform(profiles)


@pytest.mark.parametrize("per", ["screen", "plate"])
def test_moments_of_cells_are_standardized_as_the_cells_would_be(per: str) -> None:
    profiles, controls = screen(2, 16, 2)
    rng = np.random.default_rng(3)
    cells, blocks = CellMoments(list(profiles.names)), {}
    for plate in ("P0", "P1"):
        blocks[plate] = rng.normal(2, 3, size=(50, 4))
        cells.add({PLATE: plate}, blocks[plate])
    fitted = Standardize(plate=PLATE, per=per).fit(profiles, controls=controls)
    mapped = fitted.transform_moments(cells)
    for plate, block in blocks.items():
        direct = fitted.transform(
            Profiles(pd.DataFrame({PLATE: [plate] * 50}), block, profiles.names)
        )
        expected = Moments.of(direct.features)
        given = mapped.by(PLATE)[plate]
        np.testing.assert_allclose(given.mean, expected.mean)
        np.testing.assert_allclose(given.scatter, expected.scatter)


def test_a_chain_fits_each_step_on_what_the_last_gives() -> None:
    profiles, controls = screen(2, 30, 10)
    chain = make_chain([("standardize", {}), ("tvn", {"shrinkage": 0.1})], plate=PLATE, batch=PLATE)
    given = chain.fit(profiles, controls=controls).transform(profiles)
    first = Standardize(plate=PLATE).fit(profiles, controls=controls)
    middle = first.transform(profiles)
    second = TVN(batch=PLATE, shrinkage=0.1).fit(middle, controls=controls)
    np.testing.assert_array_equal(given.features, second.transform(middle).features)
    assert [step.fitted_ for step in chain.steps] == [first.fitted_, second.fitted_]
    assert Chain([]).fit(profiles).transform(profiles) is profiles


def test_names_and_parameters_of_steps_are_checked() -> None:
    def build(name: str, **params: object) -> None:
        make_chain([(name, params)], plate=PLATE, batch=PLATE)

    with pytest.raises(PluginError, match="nearest is `standardize"):
        build("standardise")
    with pytest.raises(PluginError, match="no parameter `shrink`; nearest is `shrinkage`"):
        build("tvn", shrink="oas")
    with pytest.raises(PluginError, match=r"`tvn`: shrinkage: .*found 'ols'"):
        build("tvn", shrinkage="ols")
    with pytest.raises(PluginError, match="shrinkage=-1"):
        build("tvn", shrinkage=-1)
    with pytest.raises(PluginError, match="input should be 'auto', 'screen' or 'plate'"):
        build("standardize", per="well")


def test_controls_are_a_mask() -> None:
    """Row numbers or text would choose other rows without a word."""
    rng = np.random.default_rng(0)
    roles = ["", "positive", "negative", "negative"]
    metadata = pd.DataFrame({"Metadata_Control": roles, "Metadata_Cell_Count": [1, 2, 3, 4]})
    profiles = Profiles(metadata, rng.normal(size=(4, 2)), ["a", "b"])
    steps = (
        Standardize(per="screen", reference="controls"),
        CellCount(count="Metadata_Cell_Count"),
        Sphering(),
        TVN(),
    )
    for controls in (np.array([2, 3]), profiles.values("Metadata_Control"), np.ones(3, bool)):
        for step in steps:
            with pytest.raises(ValueError, match="controls is a mask"):
                step.fit(profiles, controls=controls)


def test_values_too_large_to_square_are_undefined() -> None:
    features = np.random.default_rng(0).normal(size=(6, 2))
    features[:, 1] *= 1e160
    profiles = Profiles(pd.DataFrame({"Metadata_Well": list("abcdef")}), features, ["a", "b"])
    fitted = Standardize(per="screen").fit(profiles)
    assert fitted.names_ == ["a"]
    assert fitted.left_out_["b"].code == "too-large-to-square"


def noisy(dtype: str) -> tuple[Profiles, np.ndarray]:
    """Two plates of 24 controls and 8 treated wells; f1 is 1 up to rounding in single precision.

    One treated well has another f1.
    """
    profiles, controls = screen(2, 24, 8)
    features = profiles.features.copy()
    steps = np.random.default_rng(1).integers(-2, 3, len(features))
    features[:, 0] = 1 + steps * np.finfo("float32").eps
    features[30, 0] = 1.1
    return profiles.with_features(features.astype(dtype), profiles.names), controls


@pytest.mark.parametrize("step", [Standardize, Robust])
def test_a_spread_of_a_few_rounding_steps_is_none(step: type[Standardize | Robust]) -> None:
    """The same values stored as doubles do vary: their rounding steps are 5e8 times finer."""
    profiles, controls = noisy("float32")
    profiles = Profiles(profiles.metadata, profiles.features, profiles.names)
    fitted = step(plate=PLATE).fit(profiles, controls=controls)
    assert fitted.names_ == ["f2", "f3", "f4"]
    assert fitted.left_out_["f1"].values["equal"] == 24
    assert np.abs(fitted.transform(profiles).features).max() < 20
    doubles = Profiles(profiles.metadata, profiles.features.astype("float64"), profiles.names)
    kept = step(plate=PLATE).fit(doubles, controls=controls)
    assert kept.names_ == ["f1", "f2", "f3", "f4"]
    assert np.abs(kept.transform(doubles).features).max() > 1e5


def test_a_spread_that_the_type_can_express_is_kept() -> None:
    """20 rounding steps around 1000."""
    profiles, controls = screen(1, 24, 8)
    steps = np.random.default_rng(1).normal(size=(32, 4)) * 20
    features = (1000 * (1 + steps * np.finfo("float32").eps)).astype("float32")
    fitted = Standardize(plate=PLATE).fit(
        Profiles(profiles.metadata, features, profiles.names), controls=controls
    )
    assert fitted.left_out_ == {}


@pytest.mark.parametrize("step", [TVN, Sphering])
@pytest.mark.parametrize("with_cells", [True, False])
def test_rounding_noise_does_not_enter_a_whitening(
    step: type[TVN | Sphering], with_cells: bool
) -> None:
    """The same numbers as without the feature, though nothing limits the amplification."""
    profiles, controls = noisy("float32")
    profiles = Profiles(profiles.metadata, profiles.features, profiles.names)
    rest = profiles.with_features(profiles.features[:, 1:], profiles.names[1:])
    given = []
    for each in (profiles, rest):
        cells = CellMoments(each.names) if with_cells else None
        if cells is not None:
            cells.add({PLATE: "P0"}, each.features[controls])
        fitted = step(shrinkage=1e-9).fit(each, controls=controls, cells=cells)
        given.append(fitted.transform(each).features)
        assert list(fitted.left_out_) == ["f1"][: len(each.names) - 3]
    np.testing.assert_allclose(given[0], given[1], rtol=1e-9)


def test_averages_remember_the_type_of_their_cells(tmp_path: Path) -> None:
    """Means of wells are doubles; what they were made from had single precision."""
    gathered = WellProfiles(["f1", "f2"], "Metadata_Cell_Count")
    rng = np.random.default_rng(0)
    for well in range(20):
        noise = rng.integers(-2, 3, 30) * np.finfo("float32").eps
        cells = np.stack([1 + noise, rng.normal(size=30)], axis=1).astype("float32")
        gathered.add({"Metadata_Well": f"W{well}"}, cells)
    wells, _ = gathered.finish()
    assert (wells.features.dtype, wells.precision) == ("float64", "float32")
    wells.write(tmp_path / "wells.parquet")
    again = Profiles.read(tmp_path / "wells.parquet")
    for profiles in (wells, again, again.subset(np.arange(20)), Profiles.concat([again, again])):
        assert list(Standardize().fit(profiles).left_out_) == ["f1"]
