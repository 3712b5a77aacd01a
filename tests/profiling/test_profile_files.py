"""Profiles as AnnData's files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from deepprofiler.errors import ConfigError, DataError
from deepprofiler.profiling import Profiles

pytestmark = [
    # anndata asks pandas for an option that pandas 3 calls deprecated.
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]


def made() -> Profiles:
    metadata = pd.DataFrame(
        {
            "Metadata_Plate": ["000042", "000042", "NA"],
            "Metadata_Well": ["A01", "B02", "A01"],
            "Metadata_Control": ["negative", "", ""],
            "Metadata_Dose": ["1E5", "", "0.30"],
            "Metadata_Cell_Count": [3, 1, 2],
            "Metadata_Few_Cells": [False, True, False],
        }
    )
    features = np.random.default_rng(0).normal(size=(3, 4))
    return Profiles(metadata, features, ["conv4a_0", "tvn_1", "px/µm", "Nuclei_AreaShape_Area"])


def anndata():
    return pytest.importorskip(
        "anndata", reason="anndata is not installed (on Python 3.11 it needs pandas 2)"
    )


def test_a_file_gives_everything_back(tmp_path: Path) -> None:
    anndata()
    profiles = made()
    profiles.write(tmp_path / "p.h5ad")
    again = Profiles.read(tmp_path / "p.h5ad")
    pd.testing.assert_frame_equal(
        again.metadata[list(profiles.metadata.columns)], profiles.metadata, check_dtype=False
    )
    assert again.names == profiles.names
    np.testing.assert_array_equal(again.features, profiles.features.astype(np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["p.h5ad"]


def nullable() -> Profiles:
    """Columns of every type of pandas in which a value can be missing, and some where one is."""
    metadata = pd.DataFrame(
        {
            "Metadata_Well": pd.array(["A01", None, "A03"], dtype="string"),
            "Metadata_Passage": pd.array([1, None, 3], dtype="Int64"),
            "Metadata_Replicate": pd.array([1, 2, 3], dtype="Int32"),
            "Metadata_Fresh": pd.array([True, None, False], dtype="boolean"),
            "Metadata_Few_Cells": pd.array([True, False, False], dtype="boolean"),
            "Metadata_Dose": pd.array([0.5, None, 2], dtype="Float64"),
        }
    )
    features = pd.DataFrame(
        {
            "a": pd.array([1, None, 3], dtype="Int64"),
            "b": pd.array([0.5, None, 1.5], dtype="Float64"),
            "c": [0.25, 0.5, 0.75],
        }
    )
    return Profiles.from_frame(pd.concat([metadata, features], axis=1))


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.h5ad"])
def test_columns_in_which_a_value_can_be_missing(tmp_path: Path, name: str) -> None:
    """They come back, and the missing values stay missing."""
    if name.endswith(".h5ad"):
        anndata()
    profiles = nullable()
    profiles.write(tmp_path / name)
    numeric = [name for name in profiles.metadata if name != "Metadata_Well"]
    again = Profiles.read(
        tmp_path / name,
        numeric=[name for name in numeric if name[9:] not in ("Fresh", "Few_Cells")],
    )
    assert again.values("Metadata_Well").tolist() == ["A01", "", "A03"]
    for column, values in (
        ("Metadata_Passage", [1, None, 3]),
        ("Metadata_Replicate", [1, 2, 3]),
        ("Metadata_Dose", [0.5, None, 2]),
    ):
        found = again.metadata[column]
        assert [None if pd.isna(value) else value for value in found] == values
    for column, texts in (
        ("Metadata_Fresh", ["True", "", "False"]),
        ("Metadata_Few_Cells", ["True", "False", "False"]),
    ):
        found = again.metadata[column]
        assert ["" if pd.isna(value) else str(value) for value in found] == texts
    np.testing.assert_array_equal(
        again.features, [[1, 0.5, 0.25], [np.nan, np.nan, 0.5], [3, 1.5, 0.75]]
    )


def test_missing_numbers_are_a_group_of_their_own() -> None:
    groups = nullable().groups(["Metadata_Passage"])
    assert [rows.tolist() for _, rows in groups] == [[0], [2], [1]]


def test_anndata_reads_it_as_scanpy_wants_it(tmp_path: Path) -> None:
    profiles = made()
    read_h5ad = anndata().read_h5ad
    profiles.write(tmp_path / "p.h5ad")
    data = read_h5ad(tmp_path / "p.h5ad")
    assert data.X.dtype == np.float32
    assert list(data.var_names) == profiles.names
    assert data.obs["Metadata_Plate"].dtype == "category"
    assert data.obs["Metadata_Cell_Count"].tolist() == [3, 1, 2]
    assert data.obs["Metadata_Control_Role"].tolist() == ["negative", "", ""]
    assert data.var["feature_kind"].tolist() == ["embedding"] * 3 + ["measurement"]


def test_files_of_other_programs_are_read(tmp_path: Path) -> None:
    """Sparse, and with metadata of any name, since its place says what it is."""
    module = anndata()
    data = module.AnnData(
        sparse.csr_matrix(np.eye(3, 2, dtype=np.float32)),
        obs=pd.DataFrame({"batch": pd.Categorical(["a", None, "b"])}, index=["x", "y", "z"]),
        var=pd.DataFrame(index=["f", "g"]),
    )
    data.write_h5ad(tmp_path / "p.h5ad")
    found = Profiles.read(tmp_path / "p.h5ad")
    assert found.values("Metadata_batch").tolist() == ["a", "", "b"]
    np.testing.assert_array_equal(found.features, np.eye(3, 2))
    (tmp_path / "q.h5ad").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"q\.h5ad"):
        Profiles.read(tmp_path / "q.h5ad")


def test_without_anndata_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ConfigError, match=r'pip install -e ".*\[anndata\]"'):
        made().write(tmp_path / "p.h5ad")
    assert not list(tmp_path.iterdir())
    (tmp_path / "p.h5ad").touch()
    with pytest.raises(ConfigError, match="need anndata"):
        Profiles.read(tmp_path / "p.h5ad")


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_scanpy_plots_it(tmp_path: Path) -> None:
    scanpy = pytest.importorskip("scanpy", reason="scanpy is not installed")
    rng = np.random.default_rng(0)
    metadata = pd.DataFrame({"Metadata_Treatment": ["T1", "T2"] * 20})
    Profiles(metadata, rng.normal(size=(40, 5)), list("abcde")).write(tmp_path / "p.h5ad")
    data = scanpy.read_h5ad(tmp_path / "p.h5ad")
    scanpy.pp.pca(data, n_comps=2)
    axes = scanpy.pl.pca(data, color="Metadata_Treatment", show=False)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["T1", "T2"]
