"""Profiles in memory and in files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest

from deepprofiler.errors import DataError
from deepprofiler.profiling import Profiles

PLATES = ["000042", "24277", "NA", "None", "1E5", ""]


def made(seed: int = 0) -> Profiles:
    rng = np.random.default_rng(seed)
    metadata = pd.DataFrame(
        {
            "Metadata_Plate": PLATES,
            "Metadata_Well": [f"A0{i}" for i in range(6)],
            "Metadata_Treatment": ["T1", "T2", "T3"] * 2,
            "Metadata_Cell_Count": np.arange(1, 7),
        }
    )
    return Profiles(metadata, rng.normal(size=(6, 3)), ["conv4a_0", "conv4a_1", "conv4a_2"])


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.csv.gz"])
def test_a_file_gives_back_text_as_text_and_numbers(tmp_path: Path, name: str) -> None:
    profiles = made()
    profiles.write(tmp_path / name)
    again = Profiles.read(tmp_path / name, numeric=["Metadata_Cell_Count"])
    assert list(again.values("Metadata_Plate")) == PLATES
    assert list(again.values("Metadata_Cell_Count")) == [1, 2, 3, 4, 5, 6]
    assert again.names == profiles.names
    # Parquet is exact; pandas reads decimals to the last binary digit or the one before.
    rtol = 0 if name.endswith("parquet") else 1e-15
    np.testing.assert_allclose(again.features, profiles.features, rtol=rtol)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_parquet_has_no_index_and_only_metadata_beside_features(tmp_path: Path) -> None:
    profiles = made().subset([5, 3, 1])
    profiles.write(tmp_path / "p.parquet")
    columns = parquet.read_table(tmp_path / "p.parquet").column_names
    features = [name for name in columns if not name.startswith("Metadata_")]
    assert features == profiles.names
    assert len(columns) == 4 + 3
    assert pd.read_parquet(tmp_path / "p.parquet").index.equals(pd.RangeIndex(3))


def test_every_second_row_scores_like_the_same_rows_written_anew(tmp_path: Path) -> None:
    """Filtered by the user in pandas, with the gaps in its index, in copairs and here."""
    average_precision = pytest.importorskip("copairs.map").average_precision
    rng = np.random.default_rng(1)
    metadata = pd.DataFrame(
        {
            "Metadata_Plate": ["P1", "P2"] * 12,
            "Metadata_Treatment": np.repeat([f"T{i}" for i in range(6)], 4),
        }
    )
    Profiles(metadata, rng.normal(size=(24, 5)), list("abcde")).write(tmp_path / "all.parquet")
    half = pd.read_parquet(tmp_path / "all.parquet").iloc[::2]
    Profiles.from_frame(half).write(tmp_path / "half.parquet")
    anew = pd.read_parquet(tmp_path / "half.parquet")

    def score(frame: pd.DataFrame) -> np.ndarray:
        names = [name for name in frame.columns if not name.startswith("Metadata_")]
        table = average_precision(
            frame[[name for name in frame.columns if name not in names]],
            frame[names].to_numpy(),
            pos_sameby=["Metadata_Treatment"],
            pos_diffby=[],
            neg_sameby=[],
            neg_diffby=["Metadata_Treatment"],
            progress_bar=False,
        )
        return table["average_precision"].to_numpy()

    np.testing.assert_array_equal(score(half), score(anew))


# pycytominer sets an option that pandas 3 calls deprecated.
@pytest.mark.filterwarnings("ignore:The 'mode.copy_on_write' option is deprecated")
@pytest.mark.parametrize("name", ["p.parquet", "p.csv.gz"])
def test_pycytominer_takes_the_file_as_it_is(tmp_path: Path, name: str) -> None:
    pycytominer = pytest.importorskip("pycytominer", reason="pycytominer is not installed")
    profiles = made()
    doubled = np.hstack([profiles.features, profiles.features[:, :1]])
    profiles = profiles.with_features(doubled, [*profiles.names, "conv4a_3"])
    profiles.write(tmp_path / name)
    told = {"profiles": str(tmp_path / name), "features": profiles.names}
    metadata = list(profiles.metadata.columns)
    table = pycytominer.normalize(**told, meta_features=metadata, method="standardize")
    assert list(table.columns) == [*metadata, *profiles.names]
    np.testing.assert_allclose(table[profiles.names].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(table[profiles.names].std(ddof=0), 1)
    kept = pycytominer.feature_select(**told, operation="correlation_threshold")
    gone = set(profiles.names) - set(kept.columns)
    assert len(gone) == 1
    assert gone < {"conv4a_0", "conv4a_3"}
    table = pycytominer.aggregate(
        population_df=pycytominer.cyto_utils.load.load_profiles(told["profiles"]),
        strata=["Metadata_Treatment"],
        features=profiles.names,
        operation="median",
    )
    assert table["Metadata_Treatment"].tolist() == ["T1", "T2", "T3"]
    expected = [np.median(doubled[first::3], axis=0) for first in range(3)]
    np.testing.assert_allclose(table[profiles.names], expected)


def test_cellprofiler_marks_of_metadata_are_read(tmp_path: Path) -> None:
    path = tmp_path / "classical.csv"
    path.write_text("Image_Metadata_Plate,Image_Metadata_Well,Cells_Area\n007,A01,1.5\n")
    profiles = Profiles.read(path)
    assert list(profiles.values("Metadata_Plate")) == ["007"]
    assert profiles.names == ["Cells_Area"]


def test_a_named_index_of_pandas_is_a_column(tmp_path: Path) -> None:
    made().to_frame().set_index("Metadata_Well").to_parquet(tmp_path / "p.parquet")
    assert Profiles.read(tmp_path / "p.parquet").values("Metadata_Well")[0] == "A00"
    made().to_frame().iloc[::2].to_parquet(tmp_path / "q.parquet")
    assert Profiles.read(tmp_path / "q.parquet").names == made().names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (",Metadata_Well,f1\n0,A01,1\n", "no name"),
        ("Unnamed: 0,Metadata_Well,f1\n0,A01,1\n", "no name"),
        ("Metadata_Well,site,f1\nA01,one,1\n", "line 2, column site: 'one'"),
        ("Metadata_Well,f1,f1\nA01,1,2\n", "f1 occurs more than once"),
        ("", "p.csv"),
    ],
)
def test_columns_that_are_neither_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        Profiles.read(tmp_path / "p.csv")


def test_missing_features_survive_csv(tmp_path: Path) -> None:
    profiles = made()
    features = profiles.features.copy()
    features[0, 0] = np.nan
    profiles.with_features(features, profiles.names).write(tmp_path / "p.csv")
    again = Profiles.read(tmp_path / "p.csv").features
    np.testing.assert_allclose(again, features, rtol=1e-15)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.parquet does not exist"):
        Profiles.read(tmp_path / "gone.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1nothing")
    with pytest.raises(DataError, match=r"broken\.parquet"):
        Profiles.read(tmp_path / "broken.parquet")
    with pytest.raises(DataError, match="rename it"):
        made().write(tmp_path / "p.xlsx")


def test_sizes_and_names_are_checked() -> None:
    metadata = pd.DataFrame({"Metadata_Well": ["A01"]})
    with pytest.raises(DataError, match="shape"):
        Profiles(metadata, np.zeros((2, 1)), ["f"])
    with pytest.raises(DataError, match="does not begin"):
        Profiles(pd.DataFrame({"Well": ["A01"]}), np.zeros((1, 1)), ["f"])
    with pytest.raises(DataError, match="only metadata"):
        Profiles(metadata, np.zeros((1, 1)), ["Metadata_f"])


def test_a_misspelt_column_names_the_nearest() -> None:
    with pytest.raises(DataError, match="nearest is `Metadata_Treatment"):
        made().values("Metadata_Tretment")


def test_missing_text_is_blank() -> None:
    metadata = pd.DataFrame({"Metadata_Dose": ["1", None, float("nan")]})
    assert list(Profiles(metadata, np.zeros((3, 1)), ["f"]).values("Metadata_Dose")) == [
        "1",
        "",
        "",
    ]


def test_concat_sorts_features_by_name_and_refuses_others() -> None:
    first, second = made(0), made(1)
    turned = second.with_features(second.features[:, ::-1], second.names[::-1])
    joined = Profiles.concat([first, turned])
    np.testing.assert_array_equal(joined.features, np.vstack([first.features, second.features]))
    assert len(joined) == 12
    with pytest.raises(DataError, match="such as conv4a_1"):
        Profiles.concat([first, second.with_features(second.features, ["conv4a_0", "x", "y"])])
    with pytest.raises(DataError, match="no profiles"):
        Profiles.concat([])


def test_groups_keep_blanks_and_add_up() -> None:
    profiles = made()
    groups = profiles.groups(["Metadata_Plate"])
    assert sum(len(rows) for _, rows in groups) == len(profiles)
    assert [key for key, _ in groups] == sorted((plate,) for plate in PLATES)
    assert len(profiles.groups([])) == 1


def test_subset_takes_masks_and_numbers() -> None:
    profiles = made()
    assert list(profiles.subset([2, 0]).values("Metadata_Well")) == ["A02", "A00"]
    assert list(profiles.subset(np.arange(6) > 3).values("Metadata_Well")) == ["A04", "A05"]
    assert len(profiles.subset([])) == 0


def test_tables_of_cellprofiler_and_cytotable_are_read(tmp_path: Path, shared_data: Path) -> None:
    """Real ones, and the columns of theirs that name an image or an object."""
    nuclei = Profiles.read(shared_data / "jump_site" / "Nuclei.csv.gz")
    # Three axes of the centre, and of two places in each of 8 images.
    assert {"Metadata_ImageNumber", "Metadata_ObjectNumber"} < set(nuclei.metadata)
    places = [name for name in nuclei.metadata if "_Location_" in name]
    assert len(places) == 3 * (1 + 8 + 8)
    assert not [
        name for name in nuclei.names if re.search("Location|Center_|Children|Parent", name)
    ]
    kept = ["AreaShape_BoundingBoxArea", "Neighbors_NumberOfNeighbors_1", "AreaShape_Orientation"]
    assert set(kept) < set(nuclei.names)
    # 3 numbers, 2 centres, 4 edges, 2 counts of parts, 2 numbers of neighbours.
    assert nuclei.features.shape == (109, 1933 - len(places) - 3 - 2 - 4 - 2 - 2)
    wells = Profiles.read(
        shared_data / "bbbc021_profiles" / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"
    )
    assert wells.features.shape == (632, 516 + 2 - len(wells.metadata.columns))
    assert not [name for name in wells.names if re.search("Location|Center_|Children|Parent", name)]
    recipe = Profiles.read(shared_data / "jump_recipe" / "inputs" / "BR00121328.parquet")
    assert len(recipe.names) == 3
    described = {
        "Metadata_ImageNumber": 1,
        "Image_Metadata_Well": "A01",
        "Image_FileName_DNA": "a.tif",
        "Image_URL_DNA": "file:///a.tif",
        "Nuclei_ObjectNumber": 3,
        "Parent_Cells": 2,
        "Cells_Parent_Nuclei": 1.5,
    }
    measured = {"Nuclei_AreaShape_Area": 7.5, "Cells_Parents": 2.0}
    for name in ("p.csv", "p.parquet"):
        frame = pd.DataFrame([described | measured])
        if name == "p.csv":
            frame.to_csv(tmp_path / name, index=False)
        else:
            frame.to_parquet(tmp_path / name, index=False)
        found = Profiles.read(tmp_path / name)
        assert found.names == list(measured)
        assert found.values("Metadata_Well").tolist() == ["A01"]
        assert found.values("Metadata_Image_FileName_DNA").tolist() == ["a.tif"]


@pytest.mark.parametrize("compartment", ["Cells_", "Nuclei_", "Mean_FilteredNuclei_", ""])
def test_numbers_places_and_counts_of_objects_are_no_features(compartment: str) -> None:
    """13 columns of a compartment; 6 of them measure it."""
    described = [
        "Number_Object_Number",
        "Parent_Nuclei",
        "Children_Cells_Count",
        "Location_Center_X",
        "Location_MaxIntensity_Y_DNA",
        "AreaShape_Center_Y",
        "AreaShape_BoundingBoxMaximum_X",
    ]
    measured = [
        "AreaShape_Area",
        "AreaShape_BoundingBoxArea",
        "AreaShape_Zernike_5_1",
        "Intensity_MeanIntensity_DNA",
        "Texture_Contrast_DNA_3",
        "Neighbors_NumberOfNeighbors_3",
    ]
    names = [compartment + name for name in described + measured]
    found = Profiles.from_frame(pd.DataFrame(np.ones((2, 13)), columns=names))
    assert found.names == [compartment + name for name in measured]
    assert list(found.metadata) == [f"Metadata_{compartment}{name}" for name in described]


def test_damaged_packed_tables_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many = Profiles(
        pd.DataFrame({"Metadata_Well": [str(i) for i in range(2000)]}),
        rng.normal(size=(2000, 3)),
        ["a", "b", "c"],
    )
    path = tmp_path / "wells.csv.gz"
    many.write(path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], whole[:middle] + bytes(50) + whole[middle + 50 :]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"wells\.csv\.gz"):
            Profiles.read(path)


def test_whole_numbers_that_may_be_missing_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "Metadata_Well": ["A01", "A02"],
            "a": pd.array([1, None], dtype="Int64"),
            "b": [0.5, 1.5],
        }
    )
    frame.to_parquet(tmp_path / "wells.parquet")
    features = Profiles.read(tmp_path / "wells.parquet").features
    np.testing.assert_array_equal(features, [[1, 0.5], [np.nan, 1.5]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Metadata_Well,a,b\nA01,1,2,\nA02,3,4,\n", "line 2 has 4 cells, the header has 3"),
        ("Metadata_Well,a,b\nA01,1,2\n\nA02,3\n", "line 4 has 2 cells, the header has 3"),
        ('Metadata_Well,a\n"A\n01",1\n\nA02,x\n', "line 5, column a: 'x' is not a number"),
    ],
)
def test_lines_of_another_width_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wells.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        Profiles.read(path)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_found(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "wells.csv"
    path.write_text("Metadata_Well,a,b\nA01,1,2\n".replace(",", delimiter))
    found = Profiles.read(str(path))
    assert found.names == ["a", "b"]
    np.testing.assert_array_equal(found.features, [[1, 2]])


def test_features_with_names_as_cellprofilers_stay_features(tmp_path: Path) -> None:
    names = ["Channel_1", "Group_a", "f"]
    made_up = Profiles(pd.DataFrame({"Metadata_Well": ["A01"]}), np.ones((1, 3)), names)
    for name in ("a.parquet", "a.csv"):
        made_up.write(tmp_path / name)
        assert Profiles.read(tmp_path / name).names == names
