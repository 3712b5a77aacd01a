"""Whether `analyze` can do what the config asks for, told before anything is computed."""

from __future__ import annotations

import numpy as np

from deepprofiler.columns import PLATE, WELL
from deepprofiler.commands.analyze.normalize import Normalization
from deepprofiler.errors import ConfigError, DataError
from deepprofiler.evaluation.evaluations import choose
from deepprofiler.imaging.object_features import CP_MEASURE, require_cp_measure
from deepprofiler.profiling.join import join
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.registry import EVALUATIONS, NORMALIZERS
from deepprofiler.report.embedding import require_umap


def require_analysis(project: Project, *, report: bool) -> list[str]:
    """Refuse settings of ``analyze`` that cannot be used, rather than after hours of training.

    Parameters
    ----------
    project : Project
    report : bool
        Whether the page is asked for.

    Returns
    -------
    list of str
        Facts that are worth telling.

    Raises
    ------
    ConfigError
        A step, an evaluation or a parameter does not exist, a file does not, or a package is not
        installed.
    DataError
        The table of classical features cannot be read, has no plate and well, or no well of ours.
    """
    settings = project.config.analyze
    project.load_plugins(NORMALIZERS, EVALUATIONS)
    Normalization.of(project).chain(settings.normalize or ())
    choose(settings.evaluate or ())
    if report and settings.embedding == "umap":
        require_umap()
    if settings.classical == CP_MEASURE:
        require_cp_measure()
    return _of_table(project) if settings.classical not in (None, CP_MEASURE) else []


def _of_table(project: Project) -> list[str]:
    """Look for our wells in a table of classical features."""
    source = str(project.config.analyze.classical)
    path = project.named_path(source)
    if not path.is_file():
        is_what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(
            f"analyze.classical names {source}: {path} {is_what}; give {CP_MEASURE}, or a "
            "table from the project's folder on"
        )
    wells = project.index.well_table()[[PLATE, WELL]]
    ours = Profiles(wells, np.zeros((len(wells), 1)), ["none"])
    try:
        found = join(ours, Profiles.read(path), [PLATE, WELL]).profiles
    except DataError as error:
        raise DataError(f"classical features of {path.name}: {error}") from None
    features = len(found.names)
    return [f"classical features: {features} in {source}, of {len(found)} of {len(wells)} wells"]
