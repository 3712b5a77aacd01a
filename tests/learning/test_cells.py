"""CellStore: what was written comes back, and nothing half-written is ever read."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.errors import DataError
from deepprofiler.learning.cell_store import (
    VERSION,
    CellStore,
    CellStoreWriter,
    margin,
    read_made_from,
    table_path,
)

CHANNELS = ("DNA", "ER")
SIZE = 6


def located(plate: str, count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            PLATE: [plate] * count,
            WELL: [f"A{1 + n // 4:02d}" for n in range(count)],
            SITE: [f"0{n % 2}" for n in range(count)],
            CELL: np.arange(count) * 2,
            "x": np.arange(count) + 0.25,
            "y": np.arange(count) - 0.5,
        }
    )


def content(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    crops = rng.integers(0, 256, (count, SIZE, SIZE, len(CHANNELS)), dtype=np.uint8)
    limits = rng.random((2, count, len(CHANNELS))).astype(np.float32)
    return crops, limits[0], limits[1] + 1


def open_writer(path: Path, cells: pd.DataFrame, made_from: str = "a") -> CellStoreWriter:
    return CellStoreWriter(path, cells=cells, size=SIZE, channels=CHANNELS, made_from=made_from)


def write_all(path: Path, plate: str, count: int, seed: int) -> tuple[np.ndarray, ...]:
    values = content(count, seed)
    with open_writer(path, located(plate, count)) as writer:
        writer.write(np.arange(count), *values)
    return values


def test_round_trip_over_plates(tmp_path: Path) -> None:
    first = write_all(tmp_path / "a.h5", "000042", 10, 1)
    second = write_all(tmp_path / "b.h5", "1E5", 7, 2)
    store = CellStore([tmp_path / "a.h5", tmp_path / "b.h5"])
    assert len(store) == 17
    assert store.channels == CHANNELS
    assert store.size == SIZE
    rows = np.array([16, 0, 9, 10, 3, 3])
    for found, a, b in zip(store.gather(rows), first, second, strict=True):
        np.testing.assert_array_equal(found, np.concatenate([a, b])[rows])
    assert list(store.table[PLATE].unique()) == ["000042", "1E5"]
    assert store.table[SITE].tolist()[:3] == ["00", "01", "00"]
    assert list(store.table.columns) == [
        "row", PLATE, WELL, SITE, CELL, "x", "y",
        "minimum_DNA", "minimum_ER", "maximum_DNA", "maximum_ER",
    ]  # fmt: skip
    np.testing.assert_array_equal(store.table[CELL][10:], np.arange(7) * 2)


def test_the_file_is_plain(tmp_path: Path) -> None:
    """Contiguous and uncompressed: other tools can map it as well."""
    crops, _, _ = write_all(tmp_path / "a.h5", "P", 9, 3)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["crops"].chunks is None
        offset = file["crops"].id.get_offset()
    raw = (tmp_path / "a.h5").read_bytes()[offset:]
    np.testing.assert_array_equal(np.frombuffer(raw, np.uint8)[: crops.size], crops.ravel())


def test_missing_slots_are_filled_later(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    crops, minimum, maximum = content(10, 4)
    kept = np.array([8, 1, 2, 5])
    with open_writer(path, located("P", 10)) as writer:
        assert len(writer.table) == 0
        writer.write(kept, crops[kept], minimum[kept], maximum[kept])
    store = CellStore([path])
    assert store.table["row"].tolist() == [1, 2, 5, 8]
    np.testing.assert_array_equal(store.gather(np.arange(4))[0], crops[np.sort(kept)])

    missing = np.setdiff1d(np.arange(10), kept)
    with open_writer(path, located("P", 10)) as writer:
        assert sorted(writer.table["row"]) == [1, 2, 5, 8]
        writer.write(missing, crops[missing], minimum[missing], maximum[missing])
    store = CellStore([path])
    for found, truth in zip(store.gather(np.arange(10)), (crops, minimum, maximum), strict=True):
        np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize("what", ["made_from", "cells", "size"])
def test_the_file_is_replaced_where_its_origin_differs(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.h5"
    write_all(path, "P", 10, 5)
    cells = located("P", 10)
    if what == "cells":
        cells["x"] += 1
    writer = open_writer(path, cells, made_from="b" if what == "made_from" else "a")
    if what == "size":
        writer = CellStoreWriter(path, cells=cells, size=8, channels=CHANNELS, made_from="a")
    with writer:
        assert len(writer.table) == 0
    assert len(CellStore([path])) == 0


def interrupt(writer: CellStoreWriter, writing: bool) -> None:
    with writer:
        if writing:
            writer.write(np.arange(3), *content(3, 7))
        raise KeyboardInterrupt


def test_an_exception_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    crops, *_ = write_all(path, "P", 10, 6)
    for made_from in ("a", "other"):
        with pytest.raises(KeyboardInterrupt):
            interrupt(open_writer(path, located("P", 10), made_from), writing=made_from == "other")
        np.testing.assert_array_equal(CellStore([path]).gather(np.arange(10))[0], crops)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.parquet"]


def test_plates_without_cells(tmp_path: Path) -> None:
    with open_writer(tmp_path / "none.h5", located("P0", 0)):
        pass
    crops, *_ = write_all(tmp_path / "a.h5", "P1", 3, 8)
    assert len(CellStore([tmp_path / "none.h5"])) == 0
    store = CellStore([tmp_path / "none.h5", tmp_path / "a.h5"])
    np.testing.assert_array_equal(store.gather(np.array([2]))[0], crops[2:])


def test_damaged_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no exported cells"):
        CellStore([])
    path = tmp_path / "a.h5"
    with pytest.raises(DataError, match=r"a\.h5 does not exist; run export-sc again"):
        CellStore([path])
    write_all(path, "P", 10, 9)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is not a readable HDF5 file"):
        CellStore([path])
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is not a readable HDF5 file"):
        CellStore([path])
    path.write_bytes(whole)
    table = pd.read_parquet(table_path(path))
    table.assign(row=table["row"] + 1).to_parquet(table_path(path))
    with pytest.raises(DataError, match="names slot 10"):
        CellStore([path])
    table_path(path).unlink()
    with pytest.raises(DataError, match=r"a\.parquet does not exist"):
        CellStore([path])


def test_a_store_that_has_all_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_all(path, "P", 5, 1)
    before = path.stat().st_mtime_ns
    # As another process that reads it would: HDF5 then refuses to open it for writing.
    with h5py.File(path, "r"), open_writer(path, located("P", 5)) as writer:
        assert len(writer.table) == 5
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(("key", "value", "said"), [
    ("version", VERSION + 1, "newer release"),
    ("format", "deepprofiler-well", "is not a file of the format deepprofiler-cells"),
    ("channels", None, "is damaged"),
])  # fmt: skip
def test_other_formats_are_refused(tmp_path: Path, key: str, value: object, said: str) -> None:
    path = tmp_path / "a.h5"
    write_all(path, "P", 3, 1)
    with h5py.File(path, "r+") as file:
        if value is None:
            del file.attrs[key]
        else:
            file.attrs[key] = value
    for read in (lambda: CellStore([path]), lambda: read_made_from(path)):
        with pytest.raises(DataError, match=said):
            read()


def as_version_1(path: Path) -> None:
    """Rewrite a store in the form of version 1."""
    with h5py.File(path, "r+") as file:
        about = {
            "format": "deepprofiler-cells",
            "version": 1,
            "channels": file.attrs["channels"].tolist(),
            "settings": file["made_from"].asstr()[()],
        }
        for key in list(file.attrs):
            del file.attrs[key]
        del file["made_from"]
        file.attrs["about"] = json.dumps(about)
    names = {PLATE: "plate", WELL: "well", SITE: "site", CELL: "cell"}
    table = pd.read_parquet(table_path(path)).rename(columns=names)
    table.to_parquet(table_path(path), index=False)


def test_version_1_is_read_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    crops, minimum, maximum = content(6, 1)
    with open_writer(path, located("P", 6)) as writer:
        writer.write(np.arange(4), crops[:4], minimum[:4], maximum[:4])
    before = CellStore([path])
    as_version_1(path)
    store = CellStore([path])
    pd.testing.assert_frame_equal(store.table, before.table)
    assert store.channels == CHANNELS
    assert store.made_from == (read_made_from(path),) == ("a",)
    np.testing.assert_array_equal(store.gather(np.arange(4))[0], crops[:4])
    with open_writer(path, located("P", 6)) as writer:
        assert writer.table["row"].tolist() == [0, 1, 2, 3]
        writer.write(np.arange(4, 6), crops[4:], minimum[4:], maximum[4:])
    with h5py.File(path) as file:
        assert file.attrs["version"] == VERSION
        assert "about" not in file.attrs
    store = CellStore([path])
    np.testing.assert_array_equal(store.gather(np.arange(6))[0], crops)
    assert list(store.table)[:5] == ["row", PLATE, WELL, SITE, CELL]


def test_the_caller_may_decide_what_is_current(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_all(path, "P", 4, 1)

    def writer_for(is_current: bool) -> CellStoreWriter:
        return CellStoreWriter(
            path,
            cells=located("P", 4),
            size=SIZE,
            channels=CHANNELS,
            made_from="b",
            is_current=lambda text: is_current and text == "a",
        )

    with writer_for(is_current=True) as writer:
        assert len(writer.table) == 4
    assert read_made_from(path) == "a", "nothing was written"
    with writer_for(is_current=False) as writer:
        assert len(writer.table) == 0
    assert read_made_from(path) == "b"


def test_stores_must_go_together(tmp_path: Path) -> None:
    write_all(tmp_path / "a.h5", "P", 3, 1)
    cells = located("Q", 3)
    swapped = tmp_path / "b.h5"
    with CellStoreWriter(swapped, cells=cells, size=SIZE, channels=CHANNELS[::-1]):
        pass
    with pytest.raises(
        DataError, match=r"channels are \['ER', 'DNA'\], those of .*\['DNA', 'ER'\]"
    ):
        CellStore([tmp_path / "a.h5", swapped])
    larger = tmp_path / "c.h5"
    with CellStoreWriter(larger, cells=cells, size=8, channels=CHANNELS):
        pass
    with pytest.raises(DataError, match=r"side 8, those of .* have 6"):
        CellStore([tmp_path / "a.h5", larger])


def test_margin() -> None:
    assert margin(128, shift=0, rotations=False) == 0
    assert margin(128, shift=8, rotations=False) == 16
    assert margin(128, shift=0, rotations=True) == 54  # 128·(√2 − 1) = 53.02
    assert margin(128, shift=8, rotations=True) == 70  # 69.02
    for size in range(8, 200):
        for shift in (0, 3, 10):
            beyond = margin(size, shift=shift, rotations=True)
            assert beyond % 2 == 0
            assert size + beyond >= size * 2**0.5 + 2 * shift
