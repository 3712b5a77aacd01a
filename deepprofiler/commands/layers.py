"""List the layers of the configured network and their numbers of features."""

from __future__ import annotations

from deepprofiler.project import Project
from deepprofiler.project.networks import build_network, find_plugins


def layers(project: Project) -> list[tuple[str, int]]:
    """Name and number of features of each layer of the configured network."""
    find_plugins(project)
    return build_network(project, classes=2).layers()
