"""One real Cell Painting field through the commands: as many rows out as cells in."""

from __future__ import annotations

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from command import command

from deepprofiler.learning.cell_store import CellStore
from deepprofiler.project.well_file import read_well

STAINS = {"DNA": 5, "ER": 4, "RNA": 3, "AGP": 2, "Mito": 1}


@pytest.fixture
def field(tmp_path, shared_data):
    """A project of one well and one site, with CellProfiler's nuclei as its locations."""
    root, source = tmp_path / "jump", shared_data / "jump_site"
    row = {"Metadata_Plate": "BR00116991", "Metadata_Well": "A01", "Metadata_Site": "1"}
    images = root / "inputs" / "images"
    images.mkdir(parents=True)
    for stain, number in STAINS.items():
        row[stain] = f"{stain}.tiff"
        shutil.copyfile(source / f"r01c01f01p01-ch{number}sk1fk1fl1.tiff", images / row[stain])
    metadata = root / "inputs" / "metadata"
    metadata.mkdir()
    pd.DataFrame([row]).to_csv(metadata / "index.csv", index=False)
    config = root / "inputs" / "config"
    config.mkdir()
    (config / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "crops": {"size": 96},
                "profile": {"checkpoint": "random", "layers": ["conv3a"], "batch_size": 32},
            }
        )
    )
    nuclei = root / "inputs" / "locations" / "BR00116991" / "A01-1-Nuclei.csv"
    nuclei.parent.mkdir(parents=True)
    with gzip.open(source / "Nuclei.csv.gz") as packed, nuclei.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return root, nuclei


def test_cellprofilers_nuclei_in_rows_out(field):
    root, nuclei = field
    for words in ("prepare", "export-sc", "profile"):
        answer = command(root, words)
        assert answer.code == 0, answer.text
    table = pd.read_csv(nuclei)
    assert len(table) == 109
    well = read_well(root / "outputs/results/features/BR00116991/A01.h5")
    assert well.features.shape == (109, 128)
    assert np.isfinite(well.features).all()
    np.testing.assert_array_equal(well.cells["x"], table["AreaShape_Center_X"])
    np.testing.assert_array_equal(well.cells["y"], table["AreaShape_Center_Y"])
    store = CellStore([root / "outputs/single-cells/BR00116991.h5"])
    assert len(store) == 109
    assert store.channels == tuple(STAINS)
    # CellProfiler's centres lie in the nuclei: the DNA stain is brighter there than around.
    crops, low, high = store.gather(np.arange(109))
    dna = crops[:, :, :, 0] * ((high - low) / 255)[:, None, None, 0] + low[:, None, None, 0]
    middle = dna.shape[1] // 2
    inside = dna[:, middle - 4 : middle + 5, middle - 4 : middle + 5].mean(axis=(1, 2))
    assert (inside > np.median(dna, axis=(1, 2))).mean() > 0.95


def test_located_cells_in_rows_out(field):
    root, nuclei = field
    nuclei.unlink()
    for words in ("locate", "profile"):
        answer = command(root, words)
        assert answer.code == 0, answer.text
    located = pd.read_csv(nuclei)
    assert 90 < len(located) < 130
    well = read_well(root / "outputs/results/features/BR00116991/A01.h5")
    assert len(well.features) == len(located)
    np.testing.assert_allclose(well.cells["x"], located["Nuclei_Location_Center_X"])
