"""What users run into with their index, images and locations, through the commands."""

from __future__ import annotations

import csv

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from base_plugin import use_small_network
from base_project import CHANNELS, BaseProject
from command import command

from deepprofiler.columns import SITE
from deepprofiler.project.well_file import read_well


@pytest.fixture
def base(tmp_path) -> BaseProject:
    project = BaseProject(tmp_path / "project")
    project.config["profile"]["checkpoint"] = "random"
    return use_small_network(project)


# What tables hold does not depend on baselines and pages, which take most of the time.
TABLES_ONLY = {"baselines": False, "report": False}


def failed(base: BaseProject, experiment: str = "results") -> list[dict[str, str]]:
    with (base.root / "outputs" / experiment / "failed.csv").open() as file:
        return list(csv.DictReader(file))


def test_digit_names_stay_text(tmp_path):
    base = BaseProject(tmp_path / "p", plates=("24277", "000042"), sites=("01", "02"))
    base.config["profile"]["checkpoint"] = "random"
    base.config["analyze"] = TABLES_ONLY
    use_small_network(base).write()
    assert base.location("000042", "A01", "01").name == "A01-01-Nuclei.csv"
    assert command(base.root, "check").code == 0
    assert command(base.root, "profile").code == 0
    well = read_well(base.well_file("000042"))
    assert well.provenance.plate == "000042"
    assert list(well.cells[SITE]) == ["01"] * 5 + ["02"] * 5
    assert command(base.root, "analyze").code == 0
    profiles = base.root / "outputs" / "results" / "profiles"
    for table in profiles.glob("*.parquet"):
        plates = set(pd.read_parquet(table).get("Metadata_Plate", ["24277"]))
        assert plates <= {"24277", "000042"}, table
    assert set(pd.read_parquet(profiles / "wells.parquet")["Metadata_Plate"]) == {"24277", "000042"}


def test_blank_plate_names_the_line(base):
    base.write()
    base.rows.append({**base.rows[0], "Metadata_Plate": ""})
    base.write_index()
    answer = command(base.root, "check")
    assert answer.code == 2
    assert "line 26" in answer.text
    assert "Traceback" not in answer.text


def test_site_written_two_ways(base):
    base.write()
    path = base.location("P1", "A01", "1")
    path.rename(path.with_name("A01-01-Nuclei.csv"))
    answer = command(base.root, "profile")
    assert answer.code == 1
    assert "`1`" in answer.text
    assert "`01`" in answer.text
    assert [row["site"] for row in failed(base)] == ["1"]


def test_blanks_and_reserved_words_are_kept(base):
    for row in base.rows:
        row["Metadata_Compound"] = {"DMSO": "DMSO", "T1": "NA", "T2": "1E5"}[
            row["Metadata_Treatment"]
        ]
        row["Metadata_Dose"] = "" if row["Metadata_Treatment"] == "DMSO" else "1"
        if (row["Metadata_Plate"], row["Metadata_Well"]) == ("P1", "A03"):
            row["Metadata_Treatment"] = ""
    base.config["profile"]["checkpoint"] = "last"
    base.config["analyze"] = TABLES_ONLY
    base.write()
    answer = command(base.root, "train")
    assert answer.code == 0, answer.text
    assert "not trained on: 2 sites (blank label)" in answer.text
    assert command(base.root, "profile").code == 0
    assert len(read_well(base.well_file("P1", "A03")).cells) == 10
    assert command(base.root, "analyze").code == 0
    wells = pd.read_parquet(base.root / "outputs/results/profiles/wells.parquet")
    assert set(wells["Metadata_Compound"]) == {"DMSO", "NA", "1E5"}
    assert (wells["Metadata_Control"] == "negative").sum() == 4
    assert len(wells) == 12


def test_four_kinds_of_broken_files(base):
    base.write()
    paths = [base.image("P1", well) for well in ("A01", "A02", "A03", "B01")]
    size = paths[0].stat().st_size
    paths[0].write_bytes(bytes(size))
    paths[1].write_bytes(paths[1].read_bytes()[: size // 2])
    paths[2].write_bytes(b"")
    paths[3].write_text("this is not an image\n" * 20)
    answer = command(base.root, "check")
    assert answer.code == 1
    for path, line, reason in zip(
        paths, (2, 6, 10, 4), ("header", "there", "empty", "text"), strict=True
    ):
        found = [text for text in answer.text.splitlines() if path.name in text]
        assert any(
            f"line {line}:" in text and "channel DNA" in text and reason in text for text in found
        ), (path, reason, answer.text)
    answer = command(base.root, "profile")
    assert answer.code == 1
    assert len(failed(base)) == 4
    cells = sum(len(read_well(p).cells) for p in base.root.glob("outputs/results/features/*/*.h5"))
    assert cells == 20 * 5


def test_every_image_has_its_own_size(base):
    base.plates = ("P1",)
    base.config["dataset"]["image_size"] = [256, 256]
    base.write()
    for row in base.rows:
        if row["Metadata_Plate"] == "P2":
            image = np.full((240, 240, 3), 0.05)
            image[196:205, 196:205] = 1
            for position, name in enumerate(CHANNELS):
                path = base.images / row[name]
                tifffile.imwrite(path, (image[:, :, position] * 4095).astype(np.uint16))
            base.write_locations(
                [(200, 200)], *(row[f"Metadata_{k}"] for k in ("Plate", "Well", "Site"))
            )
    answer = command(base.root, "check")
    assert answer.code == 1
    assert "240 × 240" in answer.text
    assert "256 × 256" in answer.text
    assert command(base.root, "export-sc").code == 0
    with h5py.File(base.root / "outputs/single-cells/P2.h5") as file:
        crop = file["crops"][0]
    bright = np.argwhere(crop[:, :, 0] > 200)
    middle = crop.shape[0] / 2
    assert np.abs(bright.mean(axis=0) - middle).max() <= 1
    with h5py.File(base.root / "outputs/illumination/P2.h5") as file:
        assert file["function"].shape[:2] == (240, 240)


def test_mixed_sizes_in_one_plate_name_both_files(base):
    base.write()
    odd = base.image("P1", "B03", "2", "DNA")
    for name in CHANNELS:
        tifffile.imwrite(base.image("P1", "B03", "2", name), np.ones((240, 240), np.uint16))
    answer = command(base.root, "prepare")
    assert answer.code == 2
    assert odd.name in answer.text
    assert base.image("P1").name in answer.text
    assert not (base.root / "outputs/illumination/P1.h5").exists()


@pytest.mark.parametrize(
    ("offset", "dtype", "word"),
    [(32768, np.uint16, "89%"), (-32768, np.int16, "negative")],
)
def test_pedestals_and_signed_files_warn(base, offset, dtype, word):
    base.write()
    for path in base.images.rglob("*_DNA.tif"):
        pixels = tifffile.imread(path).astype(np.int64)
        pixels.flat[:2] = 0, 4095
        tifffile.imwrite(path, (pixels + offset).astype(dtype))
    answer = command(base.root, "check")
    assert answer.code == 1
    assert word in answer.text


def test_channels_from_pages(base):
    base.write()
    for row in base.rows:
        pages = [tifffile.imread(base.images / row[name]) for name in CHANNELS]
        stack = np.stack([page[:200] for page in pages])
        path = base.images / row["DNA"].replace("_DNA", "_stack")
        tifffile.imwrite(path, stack, photometric="minisblack")
        row |= dict.fromkeys(CHANNELS, row["DNA"].replace("_DNA", "_stack"))
    base.write_index()
    answer = command(base.root, "check")
    assert answer.code == 0, answer.text
    row = base.rows[0]
    four = np.zeros((4, 200, 256), np.uint16)
    tifffile.imwrite(base.images / row["DNA"], four, photometric="minisblack")
    answer = command(base.root, "check")
    assert answer.code == 1
    assert "4 pages" in answer.text
    assert "3 channels" in answer.text


def test_channel_order_belongs_to_the_weights(base):
    base.config["profile"]["checkpoint"] = "last"
    base.write()
    assert command(base.root, "train").code == 0
    base.config["dataset"]["channels"] = ["DNA", "AGP", "ER"]
    base.write_config()
    answer = command(base.root, "profile")
    assert answer.code == 2
    assert "['DNA', 'ER', 'AGP']" in answer.text
    assert "['DNA', 'AGP', 'ER']" in answer.text


def test_pixel_sizes_that_differ_warn(base):
    base.write()
    for row in base.rows:
        per_centimetre = 10000 / (0.5 if row["Metadata_Plate"] == "P1" else 1.0)
        for name in CHANNELS:
            path = base.images / row[name]
            tifffile.imwrite(
                path,
                tifffile.imread(path),
                resolution=(per_centimetre, per_centimetre),
                resolutionunit="CENTIMETER",
            )
    answer = command(base.root, "check")
    assert answer.code == 1
    assert "P1 0.5" in answer.text
    assert "P2 1" in answer.text


def test_clipped_pixels_are_told(base):
    base.config["prepare"] = {"compress": True, "percentiles": [5.0, 95.0]}
    base.write()
    answer = command(base.root, "prepare")
    assert answer.code == 0
    assert "clipped" in answer.text
    copies = list((base.root / "outputs/compressed").rglob("*.png"))
    assert len(copies) == 72
    assert command(base.root, "profile").code == 0


def test_cells_off_the_image(base):
    base.write()
    centers = [(0, 0), (255, 255), (-10, 40), (300, 300), ("NaN", 20), (1e9, 1), ("", 3)]
    base.write_locations(centers)
    answer = command(base.root, "profile")
    assert answer.code == 1
    well = read_well(base.well_file())
    kept = well.cells[well.cells[SITE] == "1"]
    assert list(zip(kept["x"], kept["y"], strict=True)) == [(0, 0), (255, 255), (-10, 40)]
    assert np.isfinite(well.features).all()
    rows = failed(base)
    assert [row["cell"] for row in rows] == ["5", "6", "7", "8"]
    assert all("A01-1-Nuclei.csv" in row["reason"] for row in rows)


def test_three_kinds_of_no_cells(base):
    base.config["analyze"] = TABLES_ONLY
    base.write()
    base.write_locations([], "P1", "A01", "1")
    base.location("P1", "A01", "2").write_bytes(b"")
    for site in ("1", "2"):
        base.write_locations([], "P1", "A02", site)
    base.location("P1", "A03", "1").unlink()
    answer = command(base.root, "profile")
    assert answer.code == 1
    rows = {(row["well"], row["site"]): row["reason"] for row in failed(base)}
    assert set(rows) == {("A01", "2"), ("A03", "1")}
    assert "A01-2-Nuclei.csv" in rows["A01", "2"]
    assert "not located" in rows["A03", "1"]
    empty = read_well(base.well_file("P1", "A02"))
    assert empty.features.shape == (0, 3)
    answer = command(base.root, "analyze")
    counts = pd.read_csv(base.root / "outputs/results/profiles/counts.csv", dtype=str)
    row = counts[(counts["Metadata_Plate"] == "P1") & (counts["Metadata_Well"] == "A02")]
    assert list(row["Metadata_Cell_Count"]) == ["0"]


def test_only_what_failed_is_done_again(base):
    base.write()
    broken = [base.image("P1", "A02", "1", "ER"), base.image("P2", "B03", "2", "AGP")]
    content = [path.read_bytes() for path in broken]
    for path in broken:
        path.write_bytes(b"")
    assert command(base.root, "profile").code == 1
    rows = failed(base)
    assert {(row["plate"], row["well"], row["site"]) for row in rows} == {
        ("P1", "A02", "1"),
        ("P2", "B03", "2"),
    }
    assert {row["stage"] for row in rows} == {"profile"}
    before = {p: p.stat().st_mtime_ns for p in base.root.glob("outputs/results/features/*/*.h5")}
    for path, data in zip(broken, content, strict=True):
        path.write_bytes(data)
    assert command(base.root, "profile").code == 0
    assert failed(base) == []
    changed = {p for p, written in before.items() if p.stat().st_mtime_ns != written}
    assert changed == {base.well_file("P1", "A02"), base.well_file("P2", "B03")}
    assert all(len(read_well(path).cells) == 10 for path in before)


def test_the_three_commands_are_enough(tmp_path):
    base = BaseProject(tmp_path / "p").write()
    for site in base.root.glob("inputs/locations/*/*.csv"):
        site.unlink()
    for words in ("prepare", "train", "profile"):
        answer = command(base.root, words)
        assert answer.code == 0, answer.text
    wells = list(base.root.glob("outputs/results/features/*/*.h5"))
    assert len(wells) == 12
    assert sum(len(read_well(path).cells) for path in wells) > 60
    assert yaml.safe_load((base.root / "outputs/results/config.yaml").read_text())["crops"]
