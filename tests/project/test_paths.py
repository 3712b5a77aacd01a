"""Where a project keeps things, whatever its plates and wells are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepprofiler.errors import ConfigError, DataError
from deepprofiler.project import Project
from deepprofiler.project.index import Site

NAMES = ["P1", "../../up", "/etc", "a/b", "..", "*", "", "x" * 500, "\0", "<script>"]


def site(plate: str, well: str, number: str) -> Site:
    return Site(plate, well, number, 2, Path("images"), (("a.tif", 0, 1),))


def paths(project: Project, name: str) -> list[Path]:
    """Every path that a name from the index becomes part of."""
    one = site(name, name, name)
    return [
        project.locations_path(one),
        project.compressed_path(one, 0),
        project.labels_path(one),
        project.illumination_path(name),
        project.store_path(name),
        project.well_path(name, name),
        project.well_path(name, name, "random-0"),
    ]


def test_the_original_layout(tmp_path):
    project = Project(tmp_path)
    one = site("000042", "A01", "01")
    assert project.index_path == tmp_path / "inputs/metadata/index.csv"
    assert project.images_folder == tmp_path / "inputs/images"
    assert project.locations_path(one) == tmp_path / "inputs/locations/000042/A01-01-Nuclei.csv"
    assert project.illumination_path("P1") == tmp_path / "outputs/illumination/P1.h5"
    assert project.store_path("P1") == tmp_path / "outputs/single-cells/P1.h5"
    assert project.well_path("P1", "A01") == tmp_path / "outputs/results/features/P1/A01.h5"
    assert project.checkpoint_path("last") == tmp_path / "outputs/results/checkpoint/last.h5"
    assert project.report_path == tmp_path / "outputs/results/report/index.html"


def test_names_of_the_command_line(tmp_path):
    project = Project(
        tmp_path, experiment="second", single_cells="crops", index_name="index-003.csv"
    )
    assert project.well_path("P", "W").is_relative_to(tmp_path / "outputs/second")
    assert project.store_path("P").parent == tmp_path / "outputs/crops"
    assert project.index_path.name == "index-003.csv"
    assert project.failed_path("profile") == tmp_path / "outputs/second/failed-index-003.csv"
    assert project.failed_path("locate") == tmp_path / "outputs/failed-locate-index-003.csv"


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_its_folder(tmp_path, name):
    project = Project(tmp_path, experiment=name.strip() or "x")
    depth = [len(path.relative_to(tmp_path).parts) for path in paths(project, "P")]
    for path, expected in zip(paths(project, name), depth, strict=True):
        inside = Path(os.path.normpath(path)).relative_to(tmp_path)
        assert len(inside.parts) == expected, path
        assert all(len(part.encode()) < 230 for part in inside.parts)
    assert project.experiment_folder.parent == tmp_path / "outputs"


@pytest.mark.parametrize("position", range(7))
def test_different_names_have_different_files(tmp_path, position):
    found = {paths(Project(tmp_path), name)[position] for name in NAMES}
    # A copy is named like its image, which is the same for all here.
    assert len(found) == (1 if position == 1 else len(NAMES))


@pytest.mark.parametrize(
    "names",
    [
        {"experiment": ""},
        {"experiment": "illumination"},
        {"single_cells": "Labels"},
        {"single_cells": "compressed"},
        {"experiment": "single-cells"},
        {"experiment": "A", "single_cells": "a"},
    ],
)
def test_names_that_would_write_into_each_other(tmp_path, names):
    with pytest.raises(ConfigError, match=r"--exp|--single-cells"):
        Project(tmp_path, **names)


class TestConfig:
    def folder(self, root: Path, *names: str) -> Project:
        folder = root / "inputs" / "config"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text("{}")
        return Project(root)

    @pytest.mark.parametrize("name", ["config.yaml", "first.yml", "original.json"])
    def test_the_only_one(self, tmp_path, name):
        project = self.folder(tmp_path, name, ".config.yaml.swp", ".hidden.yaml", "notes.txt")
        assert project.config_path.name == name
        assert project.config.crops.size == 128

    def test_several(self, tmp_path):
        project = self.folder(tmp_path, "a.yaml", "b.json")
        with pytest.raises(ConfigError, match=r"a\.yaml, b\.json; choose one with --config"):
            _ = project.config
        assert Project(tmp_path, config_name="b.json").config.crops.size == 128

    def test_none(self, tmp_path):
        with pytest.raises(ConfigError, match="setup` writes one"):
            _ = self.folder(tmp_path).config_path

    def test_no_folder(self, tmp_path):
        with pytest.raises(DataError, match="is not a directory"):
            _ = Project(tmp_path / "absent").config


def test_cores(tmp_path):
    assert Project(tmp_path, cores=3).workers == 3
    assert Project(tmp_path).workers == os.cpu_count()


def test_locations_count_only_with_their_name(tmp_path):
    project = Project(tmp_path)
    assert not project.has_locations()
    path = project.locations_path(site("P", "A01", "1"))
    path.parent.mkdir(parents=True)
    (path.parent / f".{path.name}.00000000-1.part").write_text("half")
    assert not project.has_locations()
    path.write_text("")
    assert project.has_locations()


def test_a_string_is_a_root_too(tmp_path):
    assert Project(str(tmp_path)).index_path == tmp_path / "inputs/metadata/index.csv"
