"""Make a new project, and divide a large one."""

from __future__ import annotations

from dataclasses import replace

from deepprofiler.files import replacing
from deepprofiler.project import Project
from deepprofiler.project.outcome import Outcome
from deepprofiler.project.sites import require_whole_index


def setup(project: Project) -> Outcome:
    """Make the folders of a project and a first config; what exists is left alone."""
    folders = [
        project.config_folder,
        project.index_path.parent,
        project.images_folder,
        project.locations_folder,
        project.outputs,
        *project.plugin_folders,
    ]
    made = [folder for folder in folders if not folder.is_dir()]
    for folder in made:
        folder.mkdir(parents=True)
    if not any(project.config_folder.iterdir()):
        with replacing(project.first_config_path) as temporary:
            temporary.write_text(_FIRST_CONFIG, encoding="utf-8")
        made.append(project.first_config_path)
    return Outcome(
        "setup",
        wrote=[str(path) for path in made],
        then="put images into inputs/images, write inputs/metadata/index.csv, then check",
    )


def split(project: Project, parts: int) -> Outcome:
    """Write ``index-000.csv`` … beside the index, whole wells each, for ``profile --part``.

    Parameters
    ----------
    project : Project
    parts : int
        Number of parts, at most the number of wells.
    """
    require_whole_index(project, "split")
    outcome = Outcome("split", then="profile --part 0 … on as many machines")
    written = set()
    for number, part in enumerate(project.index.split(parts)):
        path = project.index_path.with_name(f"index-{number:03d}.csv")
        part.write(path)
        outcome.wrote.append(str(path))
        written.add(path)
    # They would be parts of the same wells once more.
    earlier = [
        path
        for path in sorted(project.index_path.parent.iterdir())
        if replace(project, index_name=path.name).is_part and path not in written
    ]
    for path in earlier:
        path.unlink()
        outcome.notes.append(f"removed {path}, a part of an earlier split")
    return outcome


_FIRST_CONFIG = """\
# All keys and their defaults: docs/config.md
dataset:
  # channels: [DNA, ER, AGP]     # columns of inputs/metadata/index.csv; default: every image column
  # control: negative            # value of Metadata_Control that marks negative controls
  seed: 0
crops:
  size: 128                      # pixels
train:
  model: resnet18
  generator: single
  epochs: 10
profile:
  layers: [conv4a]
"""
