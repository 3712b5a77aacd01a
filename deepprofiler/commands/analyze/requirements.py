"""What ``analyze`` needs, checked before anything is computed.

A file of its own, because ``check`` and ``run`` ask for it too: a wrong name is reported before
hours of training.
"""

from __future__ import annotations

from deepprofiler.columns import PLATE, WELL
from deepprofiler.commands.analyze.classical import require_classical
from deepprofiler.commands.analyze.normalize import Normalization
from deepprofiler.evaluation.evaluations import choose
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
    if settings.classical is None:
        return []
    return require_classical(
        settings.classical,
        project.named_path(settings.classical),
        project.index.well_table()[[PLATE, WELL]],
    )
