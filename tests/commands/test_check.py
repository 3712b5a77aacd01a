"""What ``check`` warns of: facts of the index that give a wrong number without an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from base_plugin import use_small_network
from base_project import BaseProject

from deepprofiler.commands.check import check
from deepprofiler.commands.locate import locate
from deepprofiler.project import Project


@pytest.fixture
def base(tmp_path: Path) -> BaseProject:
    return use_small_network(BaseProject(tmp_path, plates=("P1",), sites=("1",))).write()


def checked(base: BaseProject) -> list[str]:
    """Problems and warnings."""
    notes = check(Project(base.root, cores=1)).notes
    return [line for line in notes if line.startswith(("problem: ", "warning: "))]


def test_one_image_for_two_sites(base: BaseProject) -> None:
    assert checked(base) == []
    base.rows[4]["ER"] = base.rows[0]["ER"]
    base.write_index()
    assert checked(base) == [
        "warning: index.csv lines 2 (plate P1 well A01 site 1) and 6 (plate P1 well A03 site 1) "
        "name the same image `P1/A01_s1_ER.tif`; give each site its own"
    ]


def test_the_same_cells_for_two_sites(base: BaseProject) -> None:
    project = Project(base.root, cores=1)
    locate(project, labels=True)
    assert checked(base) == []
    shutil.copyfile(base.location("P1", "A01"), base.location("P1", "B02"))
    for path in (project.labels_path(project.index.sites[place]) for place in (1, 2)):
        shutil.copyfile(project.labels_path(project.index.sites[0]), path)
    first, *labels = checked(base)
    assert first.startswith(
        "warning: index.csv lines 2 (plate P1 well A01 site 1) and 5 (plate P1 well B02 site 1): "
        "all 5 cells have the same locations, in "
    )
    assert [line.split(": their label images")[0] for line in labels] == [
        "warning: index.csv lines 2 (plate P1 well A01 site 1) and 4 (plate P1 well A02 site 1)",
        "warning: index.csv lines 2 (plate P1 well A01 site 1) and 6 (plate P1 well A03 site 1)",
    ]
