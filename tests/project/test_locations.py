from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepprofiler.errors import DataError
from deepprofiler.project.locations import read_locations, usable, write_locations

HEADER = "Nuclei_Location_Center_X,Nuclei_Location_Center_Y\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "A01-1-Nuclei.csv"


def test_boxes_off_the_image_are_named(path):
    path.write_text(HEADER + "0,0\n255,255\n-10,40\n300,300\nNaN,20\n1e9,1\n,\n")
    table = read_locations(path)
    assert len(table) == 7
    inside, reasons = usable(table, (256, 256), 64, path)
    assert inside.tolist() == [True, True, True, False, False, False, False]
    assert [line for line, _ in reasons] == ["5", "6", "7", "8"]
    places = ["x = 300", "x = nan", "x = 1e+09", "x = nan"]
    for (line, reason), x in zip(reasons, places, strict=True):
        assert f"{path} line {line}: {x}" in reason
        assert "256 pixels wide, 256 high" in reason


def test_three_states_are_told_apart(path):
    with pytest.raises(DataError, match=r"A01-1-Nuclei\.csv does not exist"):
        read_locations(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"A01-1-Nuclei\.csv is empty \(0 bytes\)"):
        read_locations(path)
    path.write_text(HEADER)
    table = read_locations(path)
    assert list(table) == ["x", "y", "line"]
    assert len(table) == 0
    assert table["x"].dtype == np.float64
    inside, reasons = usable(table, (256, 256), 64, path)
    assert inside.shape == (0,)
    assert reasons == []


@pytest.mark.parametrize("names", ["Location_Center", "AreaShape_Center", "Nuclei_Location_Center"])
def test_accepted_names(path, names):
    path.write_text(f"{names}_Y;{names}_X\r\n2;1.5\r\n")
    assert read_locations(path)[["x", "y"]].to_numpy().tolist() == [[1.5, 2.0]]


def test_other_names_are_refused(path):
    path.write_text("X,Y\n1,2\n")
    with pytest.raises(DataError, match=r"no columns Nuclei_Location_Center_X.*it has `X`, `Y`"):
        read_locations(path)


@pytest.mark.parametrize("text", ["abc", "1_000", "12,5"])
def test_text_is_refused_with_its_line(path, text):
    path.write_text(HEADER + f'1,2\n\n3,"{text}"\n')
    with pytest.raises(DataError, match=f"line 4: Nuclei_Location_Center_Y is `{text}`"):
        read_locations(path)


def test_other_columns_of_numbers_are_kept(path):
    path.write_text(HEADER.strip() + ",area,name,cell\n1,2,30,a,7\n3,4,,b,8\n")
    table = read_locations(path)
    assert list(table) == ["x", "y", "area", "location_cell", "line"]
    assert table["area"].tolist()[0] == 30
    assert np.isnan(table["area"][1])


def test_cellprofiler_file_of_several_images(path):
    path.write_text("ImageNumber,AreaShape_Center_X,AreaShape_Center_Y\n1,1,1\n2,2,2\n")
    with pytest.raises(DataError, match="cells of 2 images"):
        read_locations(path)


def test_one_object_twice_is_of_two_folders(path):
    """Image 1 of two folders of CellProfiler."""
    columns = "ImageNumber,ObjectNumber,AreaShape_Center_X,AreaShape_Center_Y\n"
    path.write_text(columns + "1,1,10,10\n1,2,20,20\n1,1,30,30\n")
    with pytest.raises(DataError, match=r"lines 2 and 4: ObjectNumber 1 occurs twice.*same folder"):
        read_locations(path)


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 100, (2, 20))
    for name in ("a.csv", "a.csv.gz"):
        write_locations(tmp_path / name, x, y, area=np.arange(20))
        table = read_locations(tmp_path / name)
        assert list(table) == ["x", "y", "area", "line"]
        np.testing.assert_array_equal(table[["x", "y"]].to_numpy().T, [x, y])
    header = gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).split(b"\n")[0]
    assert header.decode() == HEADER.strip() + ",area"
    write_locations(tmp_path / "a.csv", x[:0], y[:0])
    assert (tmp_path / "a.csv").read_text() == HEADER
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.csv.gz"]


def test_real_cellprofiler_table(shared_data):
    path = shared_data / "jump_site" / "Nuclei.csv.gz"
    table = read_locations(path)
    truth = pd.read_csv(path)
    assert list(table) == ["x", "y", "area", "line"]
    assert len(table) == 109
    np.testing.assert_array_equal(table["area"], truth["AreaShape_Area"])
    centers = truth[["AreaShape_Center_X", "AreaShape_Center_Y"]]
    np.testing.assert_allclose(table[["x", "y"]], centers, atol=0.5)


def test_original_locations(shared_data):
    for path in sorted((shared_data / "original_deepprofiler").rglob("*-Nuclei.csv")):
        table = read_locations(path)
        truth = pd.read_csv(path)
        np.testing.assert_allclose(table[["x", "y"]], truth.iloc[:, :2])
