"""Well files as the original's files of features, beside one that the original wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepprofiler.columns import CELL, SITE
from deepprofiler.errors import DataError
from deepprofiler.project.original_features import write_npz
from deepprofiler.project.well_file import WellFeatures, WellProvenance


def made(plate: str = "P1", well: str = "A01") -> WellFeatures:
    """Seven cells of two sites; a third site has none."""
    origin = WellProvenance(
        plate=plate,
        well=well,
        names=("conv4a_0", "conv4a_1"),
        layers={"conv4a": [0, 2]},
        channels=("DNA",),
        crop_size=64,
        rescale="min-max",
        checkpoint="last",
        digest="0",
    )
    rng = np.random.default_rng(0)
    cells = pd.DataFrame(
        {
            SITE: ["2", "1", "1", "2", "1", "1", "2"],
            CELL: np.arange(7),
            "x": rng.uniform(0, 64, 7),
            "y": rng.uniform(0, 64, 7),
        }
    )
    return WellFeatures(rng.normal(size=(7, 2)).astype(np.float32), cells, origin)


def rows(*sites: str) -> dict[str, dict[str, str]]:
    return {
        site: {
            "Metadata_Plate": "P1",
            "Metadata_Well": "A01",
            "Metadata_Site": site,
            "DNA": "a.tif",
        }
        for site in sites
    }


def test_files_are_like_the_originals(tmp_path: Path, shared_data: Path) -> None:
    well = made()
    written = write_npz(tmp_path, well, rows("1", "2", "3"), model="resnet18")
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "P1/A01/2.npz",
        "P1/A01/1.npz",
    ]
    example = shared_data / "original_deepprofiler/outputs/cpcnn/features/P001/A01/1.npz"
    for path in written:
        # As the original's own readers do.
        ours, theirs = (np.load(name, allow_pickle=True) for name in (path, example))
        assert set(ours.files) == set(theirs.files)
        for name in ours.files:
            assert ours[name].dtype == theirs[name].dtype
            assert ours[name].ndim == theirs[name].ndim
        metadata = ours["metadata"][()]
        mine = (well.cells[SITE] == path.stem).to_numpy()
        np.testing.assert_array_equal(ours["features"], well.features[mine])
        np.testing.assert_array_equal(ours["locations"], well.cells.loc[mine, ["x", "y"]])
        assert metadata == rows(path.stem)[path.stem] | {"Metadata_Model": "resnet18"}
        assert {"Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Model"} <= (
            set(theirs["metadata"][()]) & set(metadata)
        )


def test_names_are_safe_and_sites_known(tmp_path: Path) -> None:
    write_npz(tmp_path / "out", made("../P1", "A/1"), rows("1", "2"), model="resnet18")
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    with pytest.raises(DataError, match="site 2 has features and no row in the index"):
        write_npz(tmp_path, made(), rows("1"), model="resnet18")
