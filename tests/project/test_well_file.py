"""The well file: what is written is read; what is damaged is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.project.well_file import (
    VERSION,
    Origin,
    WellFeatures,
    iterate,
    read_origin,
    read_well,
    write_well,
)


def make_well(cells: int = 5, size: int = 3) -> WellFeatures:
    rng = np.random.default_rng(cells)
    table = pd.DataFrame(
        {
            "site": [f"0{number % 2}" for number in range(cells)],
            "cell": np.arange(cells),
            "x": rng.uniform(0, 100, cells),
            "y": rng.uniform(0, 100, cells),
            "area": rng.integers(0, 9, cells).astype(float),
            "px/µm": rng.uniform(0, 1, cells),
            ".": rng.uniform(0, 1, cells),
        }
    )
    origin = Origin(
        plate="000042",
        well="Å/01",
        names=tuple(f"conv4a_{number}" for number in range(size)),
        layers={"conv4a": [0, size]},
        channels=("DNA", "ER"),
        crop_size=64,
        rescale="min-max",
        checkpoint="last",
        digest="0" * 64,
        inputs="1" * 64,
        failed={"02": "index line 3: broken"},
        dropped=(("00", "7", "off the image"), ("01", "2", "blank")),
        versions={"numpy": np.__version__},
    )
    return WellFeatures(rng.normal(size=(cells, size)).astype(np.float32), table, origin)


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "A01.h5"
    write_well(path, make_well())
    return path


@pytest.mark.parametrize("cells", [0, 1, 5])
def test_round_trip(tmp_path, cells):
    well = make_well(cells)
    write_well(tmp_path / "w.h5", well)
    again = read_well(tmp_path / "w.h5")
    np.testing.assert_array_equal(again.features, well.features)
    assert again.features.dtype == np.float32
    assert again.features.shape == (cells, 3)
    assert again.origin == well.origin
    assert read_origin(tmp_path / "w.h5") == well.origin
    assert list(again.cells) == list(well.cells)
    assert list(again.cells["site"]) == list(well.cells["site"])
    np.testing.assert_array_equal(again.cells["x"], well.cells["x"])
    assert again.cells["cell"].dtype.kind == "i"


def test_other_programs_can_read_it(path):
    well = make_well()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["features"][:], well.features)
        assert file["features"].dtype == np.float32
        columns = {data.attrs["name"]: data for data in file["cells"].values()}
        assert list(columns) == list(well.cells)
        assert list(columns["site"].asstr()) == list(well.cells["site"])
        np.testing.assert_array_equal(columns["y"][:], well.cells["y"])
        assert file.attrs["format"] == "deepprofiler-well"


def test_iterate_keeps_the_order(tmp_path):
    paths = [tmp_path / f"{count}.h5" for count in (4, 0, 2)]
    for count, path in zip((4, 0, 2), paths, strict=True):
        write_well(path, make_well(count))
    assert [len(well.features) for well in iterate(paths)] == [4, 0, 2]


def test_lengths_that_do_not_agree(tmp_path):
    well = make_well()
    for wrong in (replace(well, features=well.features[:4]), replace(well, cells=well.cells[:2])):
        with pytest.raises(ValueError, match="cells"):
            write_well(tmp_path / "w.h5", wrong)
    with pytest.raises(ValueError, match="names"):
        write_well(tmp_path / "w.h5", replace(well, features=well.features[:, :2]))
    assert not (tmp_path / "w.h5").exists()


def test_absent(tmp_path):
    for read in (read_well, read_origin):
        with pytest.raises(DataError, match=r"absent\.h5 does not exist; `profile`"):
            read(tmp_path / "absent.h5")


def test_a_newer_version(path):
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = VERSION + 1
    for read in (read_well, read_origin):
        with pytest.raises(DataError, match=f"format version {VERSION + 1}.*newer release"):
            read(path)


def test_another_kind_of_file(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "deepprofiler-cells"
    for read in (read_well, read_origin):
        with pytest.raises(DataError, match="not a well file"):
            read(path)


@pytest.mark.parametrize("name", ["version", "origin"])
def test_an_attribute_is_missing_or_wrong(path, name):
    with h5py.File(path, "r+") as file:
        file.attrs[name] = "{"
    for read in (read_well, read_origin):
        with pytest.raises(DataError, match=r"A01\.h5 .*damaged"):
            read(path)
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
    for read in (read_well, read_origin):
        with pytest.raises(DataError, match=r"A01\.h5 .*damaged"):
            read(path)


@pytest.mark.parametrize("name", ["features", "cells"])
def test_a_part_is_missing(path, name):
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(DataError, match="damaged"):
        read_well(path)


def test_wherever_the_file_ends_it_is_refused(path, tmp_path):
    data = path.read_bytes()
    cut = tmp_path / "cut.h5"
    for length in range(0, len(data), 97):
        cut.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"cut\.h5"):
            read_well(cut)


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()
    well = make_well(9)
    monkeypatch.setattr(h5py.Group, "create_group", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        write_well(temporary, well)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_files_whose_parts_differ_are_damaged(path: Path) -> None:
    write_well(path, make_well())
    whole = path.read_bytes()
    for change in (lambda old: old[:-1], lambda old: np.full(old.shape, "x", object)):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            new = change(file["features"][:])
            del file["features"]
            kind = h5py.string_dtype() if new.dtype == object else None
            file.create_dataset("features", data=new, dtype=kind)
        with pytest.raises(DataError, match="is damaged"):
            read_well(path)
