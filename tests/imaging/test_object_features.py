"""Features of cp-measure against CellProfiler's own values of the same nuclei."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from deepprofiler.errors import ConfigError, DataError
from deepprofiler.imaging.object_features import measure_objects
from deepprofiler.imaging.segment import centers, otsu

# CellProfiler's names of the channels, and the files' numbers.
CHANNELS = {"DNA": 5, "ER": 4, "RNA": 3, "AGP": 2, "Mito": 1}


def cp_measure() -> None:
    pytest.importorskip("cp_measure", reason="cp-measure is not installed (extra `classical`)")


@pytest.fixture(scope="module")
def site(shared_data: Path) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Labels of a real field, our measurements, and CellProfiler's."""
    cp_measure()
    folder = shared_data / "jump_site"
    files = [folder / f"r01c01f01p01-ch{number}sk1fk1fl1.tiff" for number in CHANNELS.values()]
    image = np.stack([tifffile.imread(file) for file in files], axis=-1)
    labels = otsu(image[:, :, 0], border="keep")
    values, names = measure_objects(image, labels, list(CHANNELS), full_scale=65535)
    theirs = pd.read_csv(folder / "Nuclei.csv.gz")
    return labels, pd.DataFrame(values, columns=names), theirs


def test_ranks_are_those_of_cellprofiler(site) -> None:
    """Its masks and illumination functions are not known, so ranks are compared, not values."""
    labels, ours, theirs = site
    x, y, _ = centers(labels)
    distance = np.hypot(
        theirs["AreaShape_Center_X"].to_numpy()[:, None] - x,
        theirs["AreaShape_Center_Y"].to_numpy()[:, None] - y,
    )
    nearest = distance.argmin(axis=1)
    matched = distance.min(axis=1) < 10
    assert len(theirs) == 109
    assert matched.sum() >= 105
    assert len(set(nearest[matched])) == matched.sum()

    def rank_correlation(name: str) -> float:
        values = ours[f"Nuclei_{name}"].to_numpy()[nearest[matched]]
        return spearmanr(values, theirs.loc[matched, name]).statistic

    assert rank_correlation("AreaShape_Eccentricity") >= 0.9
    assert rank_correlation("AreaShape_Area") >= 0.7
    for channel in CHANNELS:
        assert rank_correlation(f"Intensity_MeanIntensity_{channel}") >= 0.7, channel


def test_names_are_those_of_cellprofiler(site) -> None:
    _, ours, theirs = site
    in_theirs = [name.removeprefix("Nuclei_") in theirs.columns for name in ours]
    # What JUMP's pipeline did not ask for (moments, another grey level count of textures …) is
    # named in the same way, but is not there to compare with.
    for module, least in (("Intensity", 70), ("Texture", 200), ("RadialDistribution", 60)):
        shared = [
            s for s, n in zip(in_theirs, ours, strict=True) if n.startswith(f"Nuclei_{module}_")
        ]
        assert sum(shared) >= least, (module, sum(shared), len(shared))
    assert not [name for name in ours if "Center_X" in name or "Location" in name]


def test_shape_and_intensity_of_a_disk_and_a_square() -> None:
    cp_measure()
    rows, columns = np.mgrid[:120, :120]
    labels = (np.hypot(rows - 30, columns - 30) < 20).astype(np.int32)
    labels[70:110, 60:100] = 3
    image = np.full((120, 120, 1), 51, np.uint8)
    image[labels == 3] = 204
    values, names = measure_objects(image, labels, ["a__b/µm"], full_scale=255)
    table = pd.DataFrame(values, columns=names)
    assert table["Nuclei_AreaShape_Area"].tolist() == [(labels == 1).sum(), 1600]
    assert table["Nuclei_AreaShape_Eccentricity"].max() < 0.01
    np.testing.assert_allclose(table["Nuclei_Intensity_MeanIntensity_a__b/µm"], [0.2, 0.8])
    for row, label in enumerate([1, 3]):
        widest = pdist(np.argwhere(labels == label)).max()
        assert table["Nuclei_AreaShape_MaxFeretDiameter"][row] == pytest.approx(widest, rel=0.01)


def test_what_cannot_be_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = np.zeros((8, 8, 1), np.float32), np.zeros((8, 8), np.int32)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cp_measure", None)
        patch.setitem(sys.modules, "cp_measure.featurizer", None)
        with pytest.raises(ConfigError, match=r'pip install -e ".*\[classical\]"'):
            measure_objects(image, labels, ["DNA"], full_scale=1)
    cp_measure()
    assert measure_objects(image, labels, ["DNA"], full_scale=1)[0].shape == (0, 0)
    with pytest.raises(DataError, match="8 × 9"):
        measure_objects(image, np.ones((8, 9), np.int32), ["DNA"], full_scale=1)
    with pytest.raises(DataError, match="need 0 to 1"):
        measure_objects(image + 2, np.ones((8, 8), np.int32), ["DNA"], full_scale=1)
