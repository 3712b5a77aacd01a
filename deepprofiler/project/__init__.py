"""What lies on disk: paths, the index, locations, splits, well files, freshness, outcomes."""

from deepprofiler.project.paths import Project

__all__ = ["Project"]
