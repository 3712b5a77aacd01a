"""Classical features as a baseline: computed here, or a table of another program."""

from __future__ import annotations

import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.imaging.classical import CP_MEASURE
from deepprofiler.metadata import PLATE, WELL
from deepprofiler.profiling.join import join, without_undefined
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.stages.measure_cells import measure_cells
from deepprofiler.stages.outcome import Failures, Outcome
from deepprofiler.stages.wells import with_enough_cells

# So many rows and features are named in a note.
_NAMED = 5


def classical_wells(project: Project, wells: Profiles, outcome: Outcome) -> Profiles | None:
    """Give the classical features of our wells, not normalized.

    Parameters
    ----------
    project : Project
    wells : Profiles
        Our well profiles, whose metadata and counts of cells are taken, so that the same wells
        take part in fits and scores.
    outcome : Outcome
        Takes notes on rows and features that are left out.

    Returns
    -------
    Profiles or None
        Wells with enough cells that the other table has as well, with every feature that is
        defined in all of them. None where ``analyze.classical`` is not set.

    Raises
    ------
    DataError
        The table cannot be read, has no plate and well, or no well of ours.
    """
    source = project.config.analyze.classical
    left_out_path = project.profiles_path("classical-features-left-out.csv")
    if source != CP_MEASURE:
        # What it could not measure is no longer of interest.
        Failures(project, "analyze").write()
    if source is None:
        left_out_path.unlink(missing_ok=True)
        return None
    path = project.named_path(source)
    theirs = measure_cells(project, outcome) if source == CP_MEASURE else Profiles.read(path)
    try:
        joined = join(wells, theirs, [PLATE, WELL])
        found, left_out = without_undefined(with_enough_cells(joined.profiles))
    except DataError as error:
        raise DataError(f"classical features of {path.name}: {error}") from None
    table = pd.DataFrame(left_out.items(), columns=["feature", "reason"])
    with replacing(left_out_path) as temporary:
        table.to_csv(temporary, index=False)
    for what, names in (
        ("well(s) that the index does not have with cells", joined.unknown),
        ("of our wells that it does not have", joined.missing),
        ("feature(s) that are undefined in some well", list(left_out)),
    ):
        if names:
            more = ", …" if len(names) > _NAMED else ""
            outcome.notes.append(
                f"classical features ({source}): left out {len(names)} {what}: "
                f"{', '.join(names[:_NAMED])}{more}"
            )
    return found
