"""Split the index into parts, so that several machines can profile."""

from __future__ import annotations

from dataclasses import replace

from deepprofiler.project import Project
from deepprofiler.project.outcome import Outcome
from deepprofiler.project.sites import require_whole_index


def split(project: Project, parts: int) -> Outcome:
    """Write ``index-000.csv`` … beside the index, for ``profile --part``. No well is divided.

    Parameters
    ----------
    project : Project
    parts : int
        Number of parts, at most the number of wells.
    """
    require_whole_index(project, "split")
    outcome = Outcome("split", then="profile --part N for each part N, counted from 0")
    written = set()
    for number, part in enumerate(project.index.split(parts)):
        path = project.index_path.with_name(f"index-{number:03d}.csv")
        part.write(path)
        outcome.wrote.append(str(path))
        written.add(path)
    # Parts of an earlier split hold the same wells; profiling both would do them twice.
    earlier = [
        path
        for path in sorted(project.index_path.parent.iterdir())
        if replace(project, index_name=path.name).is_part and path not in written
    ]
    for path in earlier:
        path.unlink()
        outcome.notes.append(f"removed {path}, a part of an earlier split")
    return outcome
