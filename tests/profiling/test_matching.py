"""Tables of other programs matched with ours, against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deepprofiler.errors import DataError
from deepprofiler.profiling import Profiles
from deepprofiler.profiling.matching import defined_means, join, without_undefined
from deepprofiler.profiling.normalizer import LeftOut

ON = ["Metadata_Plate", "Metadata_Well"]


def table(plates: list, wells: list[str], features: np.ndarray) -> Profiles:
    names = [f"f{column}" for column in range(features.shape[1])]
    return Profiles(
        pd.DataFrame({"Metadata_Plate": plates, "Metadata_Well": wells}), features, names
    )


def test_means_skip_what_is_undefined_as_pandas_does() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6))
    features[rng.random(features.shape) < 0.3] = np.nan
    plates = [f"P{place % 2}" for place in range(40)]
    features[np.array(plates) == "P1", 5] = np.inf
    wells = [f"A0{place % 3}" for place in range(40)]
    found = defined_means(table(plates, wells, features), ON)
    frame = pd.DataFrame(features).replace(np.inf, np.nan)
    expected = frame.groupby([plates, wells]).mean()
    np.testing.assert_allclose(found.features, expected.to_numpy(), rtol=1e-12)
    assert list(zip(found.values(ON[0]), found.values(ON[1]), strict=True)) == list(expected.index)


def test_rows_are_matched_in_our_order_and_the_others_named() -> None:
    ours = table(["24277", "24277", "P2"], ["B01", "A01", "A01"], np.zeros((3, 1)))
    theirs = table([24277, 24277, 24277], ["A01", "B01", "C01"], np.array([[1.0], [2.0], [3.0]]))
    joined = join(ours.with_column("Metadata_Cell_Count", [5, 6, 7]), theirs, ON)
    assert joined.profiles.features[:, 0].tolist() == [2.0, 1.0]
    assert joined.profiles.values("Metadata_Cell_Count").tolist() == [5, 6]
    assert joined.unknown == ["24277 C01"]
    assert joined.missing == ["P2 A01"]
    with pytest.raises(DataError, match="it has 24277 C1, we have 24277 B01"):
        join(ours, table([24277], ["C1"], np.ones((1, 1))), ON)


def test_wells_are_joined_by_their_place_on_the_plate() -> None:
    places = [(row, column) for row in "ABCDEFGH" for column in range(1, 13)]
    padded = [f"{row}{column:02d}" for row, column in places]
    plain = [f"{row}{column}" for row, column in places]
    features = np.arange(96.0)[:, None]
    ours = table(["P"] * 96, padded, np.zeros((96, 1)))
    backwards = np.arange(96)[::-1]
    theirs = table(["P"] * 96, plain, features).subset(backwards)
    joined = join(ours, theirs, ON)
    assert joined.profiles.values("Metadata_Well").tolist() == padded
    np.testing.assert_array_equal(joined.profiles.features, features)
    assert (joined.unknown, joined.missing) == ([], [])
    assert joined.respelled[0] == ("A01", "A1")
    assert len(joined.respelled) == 72
    mixed = table(["P", "P"], ["A1", "A01"], np.ones((2, 1)))
    with pytest.raises(DataError, match="P A01 and P A1 are one well"):
        join(ours, mixed, ON)


def test_undefined_features_are_listed() -> None:
    features = np.array([[1.0, np.nan, 2.0], [1.0, np.inf, np.nan]])
    kept, left_out = without_undefined(table(["P", "P"], ["A", "B"], features))
    assert kept.names == ["f0"]
    assert left_out == {
        "f1": LeftOut("undefined", values={"undefined": 2, "n": 2}),
        "f2": LeftOut("undefined", values={"undefined": 1, "n": 2}),
    }
    with pytest.raises(DataError, match="none of its 1 features"):
        without_undefined(table(["P"], ["A"], np.array([[np.nan]])))


def test_a_row_of_theirs_without_a_value_is_no_row() -> None:
    metadata = pd.DataFrame({"Metadata_Well": ["A01", "A02", "A03"]})
    ours = Profiles(metadata, np.zeros((3, 1)), ["ours"])
    features = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
    found = join(ours, Profiles(metadata, features, ["a", "b"]), ["Metadata_Well"])
    assert found.missing == ["A02"]
    np.testing.assert_array_equal(found.profiles.features, features[[0, 2]])


def folder_of(cellprofiler: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Nuclei and images of one folder of CellProfiler, whose only image is number 1."""
    nuclei = pd.DataFrame(
        {
            "ImageNumber": 1,
            "ObjectNumber": np.arange(1, 18),
            "Nuclei_Location_Center_X": np.random.default_rng(len(cellprofiler)).uniform(size=17),
            "Nuclei_AreaShape_Area": 50.0 + ord(cellprofiler),
        }
    )
    images = pd.DataFrame(
        {"ImageNumber": [1], "Metadata_Plate": ["P1"], "Metadata_Well": [f"{cellprofiler}01"]}
    )
    return nuclei, images


def test_cells_of_several_folders_are_not_multiplied() -> None:
    """17 nuclei in each of 4 folders; joined by ImageNumber alone, each well gets 68."""
    nuclei, images = zip(*map(folder_of, "ABCD"), strict=True)
    ours = table(["P1"] * 4, ["A01", "B01", "C01", "D01"], np.zeros((4, 1)))
    multiplied = pd.concat(nuclei).merge(pd.concat(images), on="ImageNumber")
    assert (multiplied.groupby("Metadata_Well").size() == 68).all()
    with pytest.raises(DataError, match=r"rows 1 and 69 are the same object .*ImageNumber 1"):
        join(ours, Profiles.from_frame(multiplied), ON)
    own = [part.merge(image, validate="m:1") for part, image in zip(nuclei, images, strict=True)]
    found = join(ours, Profiles.from_frame(pd.concat(own)), ON).profiles
    assert found.names == ["Nuclei_AreaShape_Area"]
    assert found.features[:, 0].tolist() == [50.0 + ord(letter) for letter in "ABCD"]


def test_what_tells_folders_apart_makes_objects_differ() -> None:
    """Two sites of one well, each of which is image 1 of a folder of its own."""
    nuclei, images = folder_of("A")
    sites = [nuclei.merge(images).assign(Metadata_Site=site) for site in ("1", "2")]
    ours = table(["P1"], ["A01"], np.zeros((1, 1)))
    assert len(join(ours, Profiles.from_frame(pd.concat(sites)), ON).profiles) == 1
    without = pd.concat(sites).drop(columns="Metadata_Site")
    with pytest.raises(DataError, match="17 rows repeat another"):
        join(ours, Profiles.from_frame(without), ON)
