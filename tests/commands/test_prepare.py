"""Prepare and locate: what is outdated, missing, interrupted or cannot be read."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from base_project import BaseProject
from command import Answer, command

from deepprofiler.commands import locate, prepare
from deepprofiler.errors import DataError
from deepprofiler.imaging import illumination
from deepprofiler.imaging.read import ImageFile, read_site
from deepprofiler.project import Project
from deepprofiler.project.sites import SiteReader, correction_digest, explain, read_uncorrected


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """One plate of six small sites."""
    root = tmp_path_factory.mktemp("template") / "project"
    return BaseProject(root, (96, 96), ("P1",), ("1",)).write().root


@pytest.fixture
def base(written, tmp_path) -> BaseProject:
    root = Path(shutil.copytree(written, tmp_path / "project"))
    return BaseProject(root, (96, 96), ("P1",), ("1",))


def run(base: BaseProject, *words: str) -> Answer:
    return command(base.root, "--cores", "1", *words)


def configure(base: BaseProject, **settings: object) -> Project:
    """Change settings of prepare; give the project as a later command would see it."""
    base.config.setdefault("prepare", {}).update(settings)
    base.write_config()
    return Project(base.root, cores=1)


def function_path(base: BaseProject) -> Path:
    return base.root / "outputs/illumination/P1.h5"


def copies(base: BaseProject) -> dict[str, int]:
    """8-bit copies and when they were written."""
    folder = base.root / "outputs/compressed/images"
    found = folder.rglob("*.png")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in found}


@pytest.mark.parametrize(
    "settings", [{"down_scale": 2}, {"median_size": 5}, {"percentiles": [1.0, 99.0]}]
)
def test_other_settings_ask_for_prepare(base, settings):
    assert prepare.is_needed(Project(base.root))
    assert run(base, "prepare").code == 0
    assert not prepare.is_needed(Project(base.root))
    project = configure(base, **settings)
    assert prepare.is_needed(project)
    assert run(base, "export-sc").code == 0
    assert not prepare.is_needed(project)
    measured = illumination.load(function_path(base))
    expected = project.config.prepare
    assert measured.percentile_ranks == expected.percentiles
    stored = json.loads(measured.made_from)["settings"]
    assert stored["prepare.down_scale"] == expected.down_scale
    assert stored["prepare.median_size"] == expected.median_size


def test_other_channels_ask_for_prepare_and_are_found_by_name(base):
    assert run(base, "prepare").code == 0
    function = illumination.load(function_path(base)).function
    base.config["dataset"]["channels"] = ["AGP", "DNA"]
    project = configure(base)
    assert prepare.is_needed(project)
    # Even before that, no plane is mistaken for another.
    site = project.index.sites[0]
    raw = read_site(site.files).astype(np.float32)
    image = SiteReader(project).image(site)
    np.testing.assert_array_equal(image, raw / function[:, :, [2, 0]])
    np.testing.assert_array_equal(SiteReader(project).image(site, 1), image[:, :, 1:])
    for row in base.rows:
        row["Mito"] = row["ER"].replace("ER", "Mito")
        shutil.copy(base.images / row["ER"], base.images / row["Mito"])
    base.write_index()
    base.config["dataset"]["channels"] = ["DNA", "Mito"]
    project = configure(base)
    with pytest.raises(DataError, match=r"P1\.h5 has no channel Mito.*run `prepare`"):
        SiteReader(project).image(project.index.sites[0], 0)


def test_missing_copies_ask_for_prepare(base):
    assert run(base, "prepare").code == 0
    project = configure(base, compress=True)
    assert prepare.is_needed(project)
    assert run(base, "export-sc").code == 0
    assert len(copies(base)) == 18
    assert not prepare.is_needed(project)
    next((base.root / "outputs/compressed").rglob("*.png")).unlink()
    assert prepare.is_needed(project)


@pytest.mark.parametrize("change", [{"percentiles_of": "image"}, {"illumination": False}])
def test_copies_of_other_settings_are_made_anew(base, change):
    project = configure(base, compress=True)
    assert run(base, "prepare").code == 0
    before = copies(base)
    digest = correction_digest(project, "P1")
    project = configure(base, **change)
    assert prepare.is_needed(project)
    assert run(base, "prepare").code == 0
    after = copies(base)
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)
    assert run(base, "prepare").code == 0
    assert copies(base) == after
    if "percentiles_of" in change:
        assert correction_digest(project, "P1") != digest


def test_limits_of_the_copies_are_part_of_the_digest(base):
    project = configure(base, compress=True)
    assert run(base, "prepare").code == 0
    digest = correction_digest(project, "P1")
    project = configure(base, percentiles=[1.0, 99.0])
    assert run(base, "prepare").code == 0
    assert correction_digest(project, "P1") != digest
    # Uncompressed images do not depend on them.
    project = configure(base, compress=False)
    digest = correction_digest(project, "P1")
    project = configure(base, percentiles=[2.0, 98.0])
    assert run(base, "prepare").code == 0
    assert correction_digest(project, "P1") == digest


def test_copies_without_correction_are_only_scaled(base):
    project = configure(base, illumination=False, compress=True)
    assert run(base, "prepare").code == 0
    low, high = illumination.load(function_path(base)).percentiles.T
    site = project.index.sites[0]
    raw = np.clip(read_site(site.files).astype(float), low, high)
    expected = np.rint((raw - low) * (255 / (high - low)))
    np.testing.assert_array_equal(SiteReader(project).image(site), expected)


def test_an_unreadable_site_is_told_again_and_nothing_measured(base):
    project = configure(base, compress=True)
    path = base.image("P1", "A02", "1", "ER")
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    assert run(base, "prepare").code == 1
    assert illumination.load(function_path(base)).failed == (("A02", "1"),)
    assert not prepare.is_needed(project)
    before = copies(base), function_path(base).stat().st_mtime_ns
    assert len(before[0]) == 15
    answer = run(base, "prepare")
    assert answer.code == 1
    assert path.name in answer.text
    assert "left out 1 sites" in answer.text
    assert (copies(base), function_path(base).stat().st_mtime_ns) == before
    with (base.root / "outputs/failed-prepare.csv").open() as file:
        assert [row["well"] for row in csv.DictReader(file)] == ["A02"]
    path.write_bytes(content)
    assert run(base, "prepare").code == 0
    found = illumination.load(function_path(base))
    assert (found.count, found.failed) == (6, ())
    assert len(copies(base)) == 18


def test_a_site_that_breaks_after_it_was_measured(base):
    assert run(base, "prepare").code == 0
    base.image("P1", "A02", "1", "ER").write_bytes(b"")
    project = configure(base, compress=True)
    assert run(base, "prepare").code == 1
    assert not prepare.is_needed(project)
    assert run(base, "prepare").code == 1
    assert illumination.load(function_path(base)).count == 5
    before = copies(base)
    assert run(base, "prepare").code == 1
    assert copies(base) == before


def test_two_images_never_share_a_copy(base):
    project = configure(base, compress=True)
    # a.tif and a.png of one site, and another plate that names the images of the first.
    dna, er = (tifffile.imread(base.image(channel=channel)) for channel in ("DNA", "ER"))
    tifffile.imwrite(base.images / "P1/a.tif", dna)
    tifffile.imwrite(base.images / "P1/a.png", er)
    base.rows[0] |= {"DNA": "P1/a.tif", "ER": "./P1/a.png"}
    base.rows += [{**base.rows[1], "Metadata_Plate": "P2"}]
    base.write_index()
    assert run(base, "prepare").code == 0
    sites = project.index.sites
    names = {
        project.compressed_path(site, position).relative_to(base.root / "outputs/compressed/images")
        for site in sites
        for position in range(3)
    }
    assert names == {Path(name) for name in copies(base)}
    assert len(names) == 21
    assert Path("P1/A01_s1_channel2.png") in names
    # As before where nothing is shared.
    assert Path("P1/A02_s1_DNA.png") in names
    assert Path("P2/B01_s1_channel1.png") in names


def test_names_of_copies_are_never_too_long(base):
    base.rows[0] |= dict.fromkeys(("DNA", "ER", "AGP"), "stack.tif")
    base.rows[0] |= {"Metadata_Well": "w" * 200, "Metadata_Site": "s" * 200}
    base.write_index()
    project = Project(base.root)
    found = [project.compressed_path(project.index.sites[-1], position) for position in range(3)]
    assert len(set(found)) == 3
    assert all(len(path.name.encode()) <= 204 for path in found)


def test_interrupted_locate_is_finished_by_the_next_stage(base, monkeypatch):
    shutil.rmtree(base.root / "inputs/locations")
    project = Project(base.root, cores=1)
    assert locate.is_needed(project)
    write, left = locate.write_locations, [2]

    def interrupted(*arguments, **options):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(*arguments, **options)

    monkeypatch.setattr(locate, "write_locations", interrupted)
    assert run(base, "locate").code == 130
    assert project.has_locations()
    assert locate.is_needed(project)
    monkeypatch.setattr(locate, "write_locations", write)
    answer = run(base, "locate")
    assert answer.code == 0
    assert "of 4 sites" in answer.text
    assert not locate.is_needed(project)
    assert len(list((base.root / "inputs/locations").rglob("*.csv"))) == 6


def test_locate_counts_what_it_wrote(base):
    answer = run(base, "locate", "--labels")
    assert answer.code == 0
    assert "inputs/locations" not in answer.text
    assert "wrote label images of 6 sites to outputs/labels" in answer.text
    assert "kept the locations of 6 sites" in answer.text
    base.location("P1", "A01").unlink()
    answer = run(base, "locate", "--labels")
    assert "of 1 sites to inputs/locations" in answer.text
    assert "label images" not in answer.text


def test_parts_are_refused_and_removed(base):
    folder = base.index.parent
    assert run(base, "split", "--parts", "4").code == 0
    (folder / "index-old.csv").write_text("mine")
    answer = run(base, "split", "--parts", "2")
    assert "removed" in answer.text
    assert "index-003.csv, a part of an earlier split" in answer.text
    names = ["index-000.csv", "index-001.csv", "index-old.csv", "index.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for words in (("prepare",), ("locate",), ("run",), ("split", "--parts", "1")):
        answer = run(base, "--metadata", "index-001.csv", *words)
        assert answer.code == 2, words
        assert "index-001.csv is a part of the index" in answer.text
        assert "without --metadata" in answer.text
    assert not (base.root / "outputs").exists()


def test_failures_say_which_line_and_channel(base):
    base.image("P1", "A02", "1", "ER").unlink()
    base.image("P1", "A03", "1", "AGP").write_bytes(b"")
    missing = (
        "index.csv line 4: channel ER names P1/A02_s1_ER.tif, which does not exist. "
        "Paths are relative to inputs/images."
    )
    image = base.image("P1", "A03", "1", "AGP")
    empty = f"index.csv line 6: channel AGP: {image}: the file is empty"
    for words in ("check", "prepare"):
        answer = run(base, words)
        assert missing in answer.text, answer.text
        assert empty in answer.text, answer.text
    shutil.rmtree(base.root / "inputs/locations")
    base.image("P1", "A02", "1", "DNA").unlink()
    assert "line 4: channel DNA names P1/A02_s1_DNA.tif" in run(base, "locate").text
    assert run(base, "split", "--parts", "2").code == 0
    answer = run(base, "--metadata", "index-000.csv", "check")
    assert "index-000.csv line 3: channel ER names P1/A02_s1_ER.tif" in answer.text


def test_failures_that_no_channel_explains(base):
    site = Project(base.root).index.sites[0]
    assert explain(site, "the channels differ") == "index.csv line 2: the channels differ"


def test_a_broken_stack_is_read_and_told_once(base, monkeypatch):
    for number, row in enumerate(base.rows):
        row |= dict.fromkeys(("DNA", "ER", "AGP"), f"{row['Metadata_Well']}.tif")
        stack = np.eye(96, dtype=np.uint8)[None].repeat(3, 0)
        stack[:, 0, number + 1] = 2  # No two images are the same.
        tifffile.imwrite(base.images / row["DNA"], stack, photometric="minisblack")
    base.write_index()
    (base.images / "A01.tif").unlink()
    (base.images / "A02.tif").write_bytes(b"")
    from deepprofiler.commands import check

    read: list[list[ImageFile]] = []

    def count(files):
        read.append(list(files))
        return read_uncorrected(files)

    monkeypatch.setattr(check, "read_uncorrected", count)
    answer = run(base, "check")
    assert len(read) == 6
    assert "2 problems and 0 warnings" in answer.text
    assert "line 2: channels DNA, ER, AGP name A01.tif, which does not exist" in answer.text
    assert "line 4: channels DNA, ER, AGP: " in answer.text


def test_files_of_an_earlier_version_are_measured_anew(base):
    assert run(base, "prepare").code == 0
    with h5py.File(function_path(base), "r+") as file:
        file.attrs["version"] = 1
    project = Project(base.root)
    assert prepare.is_needed(project)
    assert run(base, "prepare").code == 0
    assert not prepare.is_needed(project)


def name_copies(base: BaseProject, folder: str) -> None:
    """Let the index name the 8-bit copies, which lie in a folder."""
    for row in base.rows:
        for channel in ("DNA", "ER", "AGP"):
            row[channel] = f"{folder}/{Path(row[channel]).stem}.png"
    base.write_index()


def test_outputs_are_refused_as_images(base):
    """Copies are corrected: they would be divided by a second function."""
    configure(base, compress=True)
    assert run(base, "prepare").code == 0
    name_copies(base, "../../outputs/compressed/images/P1")
    answer = run(base, "prepare")
    assert answer.code == 2
    assert "index.csv line 2: channel DNA names ../../outputs/compressed" in answer.text
    shutil.move(base.root / "outputs/compressed/images/P1", base.images / "moved")
    name_copies(base, "moved")
    for words in ("check", "prepare"):
        answer = run(base, words)
        assert answer.code == 1
        assert "an 8-bit copy that `prepare` wrote" in answer.text
    configure(base, compress=False, illumination=False)
    assert run(base, "check").code == 0


def test_changed_images_are_measured_again(base):
    """By content: other pixels or channels; not by another time of the same file."""
    prepare.prepare(configure(base))
    path = function_path(base)
    before = path.read_bytes()
    for image in base.images.rglob("*.tif"):
        os.utime(image, ns=(1, 1))
    assert not prepare.is_needed(configure(base))
    prepare.prepare(configure(base))
    assert path.read_bytes() == before
    image = base.image("P1", "A02", "1", "ER")
    tifffile.imwrite(image, tifffile.imread(image)[::-1])
    assert prepare.is_needed(configure(base))
    prepare.prepare(configure(base))
    assert path.read_bytes() != before
    assert not prepare.is_needed(configure(base))
    base.rows[0]["DNA"], base.rows[0]["ER"] = base.rows[0]["ER"], base.rows[0]["DNA"]
    base.write_index()
    assert prepare.is_needed(configure(base)), "the same files in other channels"
