"""What ``check`` warns of: facts of the index that give a wrong number without an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from base_plugin import use_small_network
from base_project import BaseProject
from command import command

from deepprofiler.commands.check import check
from deepprofiler.commands.locate import channel_note, locate, nuclear_channel
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


def test_columns_that_the_field_names_otherwise(base: BaseProject) -> None:
    for row in base.rows:
        row["Metadata_batch"] = row.pop("Metadata_Batch")
        row |= dict.fromkeys(("Metadata_broad_sample", "Metadata_pert_iname"), "BRD-K1")
        row["Metadata_moa"] = "kinase inhibitor"
    base.write_index()
    project = Project(base.root, cores=1)
    notes = check(project).notes
    offered = [note for note in notes if note.startswith("the role ")]
    assert offered == [
        "the role compound is played by no column, and `Metadata_broad_sample`, "
        "`Metadata_pert_iname` may be meant: set dataset.columns.compound if so",
        "the role mechanism is played by no column, and `Metadata_moa` may be meant: "
        "set dataset.columns.mechanism if so",
        "the role batch is played by Metadata_Plate, and `Metadata_batch` may be meant: "
        "set dataset.columns.batch if so",
    ]
    assert not project.index.has("mechanism")
    base.config["dataset"]["columns"] = {"compound": "pert_iname", "mechanism": "moa"}
    base.config["dataset"]["columns"]["batch"] = "Metadata_batch"
    base.write_config()
    notes = check(Project(base.root, cores=1)).notes
    assert [note for note in notes if note.startswith("the role ")] == []


@pytest.mark.parametrize("name", ["HOECHST 33342", "OrigDNA", "dna", "w1_DAPI", "Hoechst33342"])
def test_the_channel_of_nuclei_by_a_part_of_its_name(base: BaseProject, name: str) -> None:
    for row in base.rows:
        row[name] = row.pop("DNA")
    base.config["dataset"]["channels"] = ["ER", name, "AGP"]
    base.write_config()
    base.write_index()
    project = Project(base.root, cores=1)
    assert nuclear_channel(project) == 1
    said = [f"nuclei are located in the channel `{name}`; locate.channel names another"]
    assert channel_note(project) == (said if name != "dna" else [])


def test_channels_of_which_none_or_two_may_show_nuclei(base: BaseProject) -> None:
    shutil.rmtree(base.root / "inputs" / "locations")
    assert checked(base) == []
    for row in base.rows:
        row |= {"OrigDNA": row.pop("DNA"), "IllumDNA": row.pop("ER")}
    base.write_index()
    for channels, problem in (
        (["OrigDNA", "IllumDNA"], "the channels OrigDNA, IllumDNA all name DNA, Hoechst or DAPI"),
        (["AGP"], "none of the channels AGP is named DNA, Hoechst or DAPI"),
    ):
        base.config["dataset"]["channels"] = channels
        base.write_config()
        assert f"warning: locate: {problem}; set locate.channel" in checked(base)[0]


def test_several_mechanisms_in_one_value(base: BaseProject) -> None:
    """The treatment of T1 has two, of which T2 shares one."""
    mechanisms = {"T1": "kinase inhibitor|mTOR inhibitor", "T2": "mTOR inhibitor", "DMSO": ""}
    for row in base.rows:
        row["Metadata_Mechanism"] = mechanisms[row["Metadata_Treatment"]]
    base.write_index()
    (warning,) = checked(base)
    line = 2 + [row["Metadata_Treatment"] for row in base.rows].index("T1")
    assert warning == (
        f"warning: index.csv line {line}: Metadata_Mechanism is `kinase inhibitor|mTOR inhibitor`; "
        "1 of 2 mechanisms hold `|`. Each is compared as a whole: `kinase inhibitor|mTOR "
        "inhibitor` matches neither `kinase inhibitor` nor `mTOR inhibitor`; give one mechanism to "
        "each compound"
    )


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


def test_copies_of_an_image_for_two_sites(base: BaseProject) -> None:
    for channel in ("DNA", "ER"):
        shutil.copyfile(
            base.image("P1", "A01", "1", channel), base.image("P1", "A02", "1", channel)
        )
    (line,) = checked(base)
    assert line == (
        "warning: index.csv lines 2 (plate P1 well A01 site 1) and 4 (plate P1 well A02 site 1): "
        f"{base.image('P1', 'A01')} and {base.image('P1', 'A02')} hold the same pixels (and 1 "
        "more pair of files); one of them is probably a copy"
    )


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


@pytest.mark.parametrize(
    ("size", "cause"),
    [(0.65, ""), (3.25, ""), (6.45, "that of the camera"), (64.5, "another unit"), (0.00065, "mm")],
)
def test_a_pixel_that_is_none_of_a_microscope(base: BaseProject, size: float, cause: str) -> None:
    for row in base.rows:
        for channel in ("DNA", "ER", "AGP"):
            path = base.images / row[channel]
            pixels = {"PhysicalSizeX": size, "PhysicalSizeXUnit": "µm"}
            tifffile.imwrite(path, tifffile.imread(path), ome=True, metadata=pixels)
    doubts = [line for line in checked(base) if "implausible" in line]
    if not cause:
        assert doubts == []
        return
    (doubt,) = doubts
    assert doubt.startswith(f"warning: plate P1: a pixel of {size:g} µm, as the files say")
    assert cause in doubt


def test_label_images_that_are_none(base: BaseProject) -> None:
    project = Project(base.root, cores=1)
    sites = project.index.sites[:3]
    image = tifffile.imread(base.image("P1", "A01"))
    paths = [project.labels_path(site) for site in sites]
    paths[0].parent.mkdir(parents=True)
    mask = (image > np.percentile(image, 90)).astype(np.uint8) * 255
    for path, labels in zip(paths, (mask, mask[::2, ::2], 0 * mask), strict=True):
        tifffile.imwrite(path, labels)
    lines = checked(base)
    assert [line.split(":")[0] for line in lines] == ["problem", "problem", "warning"]
    for line, path, says in zip(
        lines,
        paths,
        ("a mask and not a label image", "the site's images are", "no objects"),
        strict=True,
    ):
        assert str(path) in line
        assert says in line
    shutil.rmtree(base.root / "inputs" / "locations")
    assert command(base.root, "locate").code == 1
    assert not project.locations_path(sites[0]).exists()
    assert not project.locations_path(sites[1]).exists()
