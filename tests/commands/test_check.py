"""What ``check`` warns of: facts of the index that give a wrong number without an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from base_plugin import use_small_network
from base_project import BaseProject
from command import command

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


def test_facts_that_differ_within_a_well_or_a_plate(base: BaseProject) -> None:
    base.rows.append(base.rows[2] | {"Metadata_Site": "2", "Metadata_Treatment": "T2"})
    base.rows[1]["Metadata_Batch"] = "2"
    base.write()
    label = (
        "index.csv line 8: well A02 of plate P1 has Metadata_Treatment `T2`, but line 4 has `T1`; "
        "the label and treatment of a well must be the same at all of its sites"
    )
    batch = "index.csv line 3: plate P1 has Metadata_Batch `2`, but line 2 has `1`; a plate is of"
    problems = [line for line in checked(base) if line.startswith("problem: ")]
    assert problems[0] == f"problem: {label}"
    assert problems[1].startswith(f"problem: {batch} one batch")
    assert len(problems) == 2
    answer = command(base.root, "run")
    assert answer.code == 2
    assert label in answer.text
    assert not (base.root / "outputs" / "illumination").exists()


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
