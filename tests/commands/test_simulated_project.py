"""A simulated screen in a project: what is read of it, and a config that was edited."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from deepprofiler.commands.simulate import simulate
from deepprofiler.project import Project
from deepprofiler.simulate import ScreenDesign

SMALL = ScreenDesign(
    image_size=(48, 64),
    pixel_size=1.0,
    batches=2,
    plates=2,
    sites=1,
    plate_shape=(3, 4),
    controls=4,
    mechanisms=("DNA damage", "Actin disruptors"),
    compounds=2,
    doses=(1.0,),
    inactive=0,
    toxic=0,
    cells=2,
    crop_size=32,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    simulate(Project(folder, cores=1), screen=SMALL, seed=3)
    return folder


def test_the_project_can_be_read(small):
    project = Project(small)
    assert project.config.channels == SMALL.channels
    assert project.config.crops.size == SMALL.crop_size
    rows = pd.read_csv(project.index_path, dtype=str)
    assert len(project.index.sites) == len(rows) == 24
    assert all((project.images_folder / name).exists() for name in rows["DNA"])


def test_true_locations_are_an_option(small, tmp_path):
    assert not Project(small).has_locations()
    simulate(Project(tmp_path, cores=1), screen=SMALL, seed=3, locations=True)
    assert Project(tmp_path).has_locations()


def test_an_edited_config_is_kept(small, tmp_path):
    root = Path(shutil.copytree(small, tmp_path / "copy"))
    path, copy = root / "inputs/config/config.yaml", root / "inputs/truth/config.yaml"
    text = path.read_text()
    assert copy.read_text() == text
    path.write_text(text + "# mine\n")
    outcome = simulate(Project(root, cores=1), screen=SMALL, seed=3)
    assert path.read_text() == text + "# mine\n"
    assert outcome.notes == [f"kept {path}, since it was edited or not written by simulate"]
    # A config that another version of this program wrote is not an edited one.
    copy.write_text(text + "# mine\n")
    assert simulate(Project(root, cores=1), screen=SMALL, seed=3).notes == []
    assert path.read_text() == copy.read_text() == text
