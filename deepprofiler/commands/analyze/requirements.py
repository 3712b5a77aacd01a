"""What ``analyze`` needs, checked before anything is computed.

A file of its own, because ``check`` and ``run`` ask for it too: a wrong name is reported before
hours of training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

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
    """Refuse settings of ``analyze`` that cannot be used.

    Parameters
    ----------
    project : Project
    report : bool
        Whether the report is to be made.

    Returns
    -------
    list of str
        What was found in the table of classical features, for a summary.

    Raises
    ------
    PluginError
        A normalizer, an evaluation or a parameter does not exist, or a value cannot be used.
    ConfigError
        A file does not exist, or a package is not installed.
    DataError
        The table of classical features cannot be read, has no plate and well, or no well of the
        index.
    """
    settings = project.config.analyze
    project.load_plugins(NORMALIZERS, EVALUATIONS)
    Normalization.of(project).chain(settings.normalize or ())
    choose(settings.evaluate or ())
    if report and settings.embedding == "umap":
        require_umap()
    if settings.classical == CP_MEASURE:
        require_cp_measure()
        return []
    if settings.classical is None:
        return []
    wells = project.index.well_table()[[PLATE, WELL]]
    return [_require_table(settings.classical, project.named_path(settings.classical), wells)]


def _require_table(source: str, path: Path, wells: pd.DataFrame) -> str:
    """Look for the wells of the index in a table of classical features."""
    if not path.is_file():
        is_what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(
            f"analyze.classical names {source}: {path} {is_what}; give {CP_MEASURE}, or a "
            "table from the project's folder on"
        )
    ours = Profiles(wells, np.zeros((len(wells), 1)), ["none"])
    try:
        features = join(ours, Profiles.read(path), [PLATE, WELL]).profiles
    except DataError as error:
        raise DataError(f"classical features of {path.name}: {error}") from None
    return (
        f"classical features: {len(features.names)} in {source}, of {len(features)} of "
        f"{len(wells)} wells"
    )
