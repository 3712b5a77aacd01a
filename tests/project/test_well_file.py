"""The well file: what is written is read; what is damaged is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.project.freshness import FileState, Provenance
from deepprofiler.project.well_file import (
    VERSION,
    DroppedCell,
    WellFeatures,
    WellProvenance,
    iterate,
    read_provenance,
    read_well,
    write_well,
)


def make_well(cells: int = 5, size: int = 3) -> WellFeatures:
    rng = np.random.default_rng(cells)
    table = pd.DataFrame(
        {
            SITE: [f"0{number % 2}" for number in range(cells)],
            CELL: np.arange(cells),
            "x": rng.uniform(0, 100, cells),
            "y": rng.uniform(0, 100, cells),
            "area": rng.integers(0, 9, cells).astype(float),
            "px/µm": rng.uniform(0, 1, cells),
            "px|µm": rng.uniform(0, 1, cells),
            ".": rng.uniform(0, 1, cells),
        }
    )
    provenance = WellProvenance(
        plate="000042",
        well="Å/01",
        names=tuple(f"conv4a_{number}" for number in range(size)),
        layers={"conv4a": [0, size]},
        channels=("DNA", "ER"),
        crop_size=64,
        rescale="min-max",
        checkpoint="last",
        digest="0" * 64,
        trained=True,
        made_from=Provenance(
            "features",
            {"crops.size": 64},
            {"illumination": None},
            {"inputs/images/a.tif": FileState(8, 1, "1" * 64)},
            {"numpy": np.__version__},
        ),
        failed={"02": "index line 3: broken"},
        dropped=(DroppedCell("00", "7", "off the image"), DroppedCell("01", "2", "blank")),
    )
    features = rng.normal(size=(cells, size)).astype(np.float32)
    return WellFeatures(features, table, provenance)


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
    assert again.provenance == well.provenance
    assert read_provenance(tmp_path / "w.h5") == well.provenance
    assert list(again.cells) == list(well.cells)
    assert list(again.cells[SITE]) == list(well.cells[SITE])
    np.testing.assert_array_equal(again.cells["x"], well.cells["x"])
    assert again.cells[CELL].dtype.kind == "i"


def decoded(item: h5py.Group | h5py.Dataset) -> Any:
    """Read an element by AnnData's documented encodings, whoever wrote it."""
    kind, version = item.attrs["encoding-type"], item.attrs["encoding-version"]
    if kind in ("anndata", "dict"):
        assert version == "0.1.0"
        return {name: decoded(value) for name, value in item.items()}
    assert version == "0.2.0"
    if kind == "dataframe":
        columns = {name: decoded(item[name]) for name in item.attrs["column-order"]}
        assert {item.attrs["_index"], *columns} == set(item)
        return pd.DataFrame(columns, index=decoded(item[item.attrs["_index"]]))
    if kind == "string":
        return item.asstr()[()]
    if kind == "numeric-scalar":
        return item[()]
    return {"array": lambda: item[:], "string-array": lambda: item.asstr()[:]}[kind]()


def test_it_is_an_anndata_file(path: Path) -> None:
    well = make_well()
    with h5py.File(path) as file:
        elements = decoded(file)
    assert set(elements) == {"X", "layers", "obs", "obsm", "obsp", "uns", "var", "varm", "varp"}
    np.testing.assert_array_equal(elements["X"], well.features)
    assert elements["X"].dtype == np.float32
    obs = elements["obs"]
    assert set(obs[PLATE]) == {"000042"}
    assert set(obs[WELL]) == {"Å/01"}
    assert obs[SITE].tolist() == well.cells[SITE].tolist()
    assert obs.index.is_unique
    for name, key in (("y", "y"), ("area", "area"), ("px/µm", "px|µm"), ("px|µm", "px|µm_")):
        np.testing.assert_array_equal(obs[key], well.cells[name])
    var = elements["var"]
    assert var.index.tolist() == ["conv4a_0", "conv4a_1", "conv4a_2"]
    assert var["layer"].tolist() == ["conv4a"] * 3
    assert var["index"].tolist() == [0, 1, 2]
    assert "channel" not in var
    ours = elements["uns"]["deepprofiler"]
    assert ours["units"] == {"x": "pixels", "y": "pixels"}
    assert ours["crop_size"] == 64
    assert ours["channels"].tolist() == ["DNA", "ER"]
    assert json.loads(ours["provenance"])["digest"] == "0" * 64


def test_features_of_one_channel_name_it(tmp_path: Path) -> None:
    well = make_well(size=4)
    names = ("conv4a_DNA_0", "conv4a_DNA_1", "conv4a_a_b_0", "conv4a_a_b_1")
    provenance = replace(well.provenance, names=names)
    write_well(tmp_path / "w.h5", replace(well, provenance=provenance))
    with h5py.File(tmp_path / "w.h5") as file:
        var = decoded(file["var"])
    assert var["channel"].tolist() == ["DNA", "DNA", "a_b", "a_b"]
    assert var["index"].tolist() == [0, 1, 0, 1]


@pytest.mark.slow
def test_anndata_opens_it(path: Path, tmp_path: Path) -> None:
    """In an environment of its own: on Python 3.11 anndata needs an older pandas."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "anndata"]
    subprocess.run([*pip, *(["pandas<3"] if sys.version_info < (3, 12) else [])], check=True)
    code = (
        "import anndata, sys; data = anndata.read_h5ad(sys.argv[1]);"
        "print(data.shape, data.obs['Metadata_Site'].tolist(), data.var['layer'].tolist(),"
        " data.uns['deepprofiler']['checkpoint'], float(data.X.sum()))"
    )
    answer = subprocess.run(
        [python, "-c", code, path], capture_output=True, text=True, check=True
    ).stdout.split(" ", 2)
    assert answer[:2] == ["(5,", "3)"]
    assert answer[2].startswith(
        "['00', '01', '00', '01', '00'] ['conv4a', 'conv4a', 'conv4a'] last"
    )
    assert float(answer[2].split()[-1]) == pytest.approx(float(make_well().features.sum()), 1e-5)


def write_version_1(path: Path, well: WellFeatures) -> None:
    """Write a well file as version 1 of the format was."""
    provenance = well.provenance
    origin = {
        "plate": provenance.plate,
        "well": provenance.well,
        "names": provenance.names,
        "layers": provenance.layers,
        "channels": provenance.channels,
        "crop_size": provenance.crop_size,
        "rescale": provenance.rescale,
        "checkpoint": provenance.checkpoint,
        "digest": provenance.digest,
        "inputs": "2" * 64,
        "failed": provenance.failed,
        "dropped": [(cell.site, cell.line, cell.reason) for cell in provenance.dropped],
        "versions": {"numpy": "2.0.0"},
    }
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "deepprofiler-well", "version": 1})
        file.attrs["origin"] = json.dumps(origin)
        file["features"] = well.features
        for number, (name, column) in enumerate(well.cells.items()):
            texts = column.dtype.kind not in "if"
            key = f"cells/{number:05d}"
            if texts:
                file.create_dataset(key, data=list(column), dtype=h5py.string_dtype())
            else:
                file[key] = column.to_numpy()
            file[key].attrs["name"] = {SITE: "site", CELL: "cell"}.get(name, name)


def test_version_1_is_read(tmp_path: Path) -> None:
    well = make_well()
    write_version_1(tmp_path / "w.h5", well)
    again = read_well(tmp_path / "w.h5")
    np.testing.assert_array_equal(again.features, well.features)
    pd.testing.assert_frame_equal(again.cells, well.cells, check_dtype=False)
    packages = {"numpy": "2.0.0"}
    expected = replace(well.provenance, made_from=None, version_1_packages=packages)
    assert again.provenance == expected
    assert again.provenance.versions == packages
    assert again.provenance.trained
    random = replace(well, provenance=replace(well.provenance, checkpoint="random-7"))
    write_version_1(tmp_path / "w.h5", random)
    assert not read_well(tmp_path / "w.h5").provenance.trained


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
    for read in (read_well, read_provenance):
        with pytest.raises(DataError, match=r"absent\.h5 does not exist; `profile`"):
            read(tmp_path / "absent.h5")


def test_a_newer_version(path):
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = VERSION + 1
    for read in (read_well, read_provenance):
        with pytest.raises(DataError, match=f"format version {VERSION + 1}.*newer release"):
            read(path)


def test_another_kind_of_file(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "deepprofiler-cells"
    for read in (read_well, read_provenance):
        with pytest.raises(DataError, match="not a file of the format deepprofiler-well"):
            read(path)


@pytest.mark.parametrize("change", ["missing", "wrong"])
@pytest.mark.parametrize("name", ["version", "provenance"])
def test_what_identifies_it_is_missing_or_wrong(path, name, change):
    with h5py.File(path, "r+") as file:
        if name == "version":
            del file.attrs[name]
            if change == "wrong":
                file.attrs[name] = "{"
        else:
            group = file["uns/deepprofiler"]
            del group[name]
            if change == "wrong":
                group[name] = "{"
    for read in (read_well, read_provenance):
        with pytest.raises(DataError, match=r"A01\.h5 .*damaged"):
            read(path)


@pytest.mark.parametrize("name", ["X", "obs"])
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
            new = change(file["X"][:])
            del file["X"]
            kind = h5py.string_dtype() if new.dtype == object else None
            file.create_dataset("X", data=new, dtype=kind)
        with pytest.raises(DataError, match="is damaged"):
            read_well(path)
