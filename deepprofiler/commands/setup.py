"""Create the folders of a new project and a first config."""

from __future__ import annotations

from deepprofiler.files import replacing
from deepprofiler.project import Project
from deepprofiler.project.outcome import Outcome


def setup(project: Project) -> Outcome:
    """Create the folders of a project and a first config; existing ones are kept."""
    folders = [
        project.config_folder,
        project.index_path.parent,
        project.images_folder,
        project.locations_folder,
        project.outputs,
        *project.plugin_folders,
    ]
    created = [folder for folder in folders if not folder.is_dir()]
    for folder in created:
        folder.mkdir(parents=True)
    if not any(project.config_folder.iterdir()):
        with replacing(project.first_config_path) as temporary:
            temporary.write_text(_FIRST_CONFIG, encoding="utf-8")
        created.append(project.first_config_path)
    return Outcome(
        "setup",
        wrote=[str(path) for path in created],
        then="put images into inputs/images, write inputs/metadata/index.csv, run check",
    )


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
