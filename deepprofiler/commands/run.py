"""Everything from images to the report."""

from __future__ import annotations

from deepprofiler.commands.analyze import analyze
from deepprofiler.commands.analyze.requirements import require_analysis
from deepprofiler.commands.export_cells import export_cells
from deepprofiler.commands.locate import is_needed as locating_is_needed
from deepprofiler.commands.locate import locate
from deepprofiler.commands.prepare import prepare
from deepprofiler.commands.profile import profile
from deepprofiler.commands.train import train
from deepprofiler.project import Project
from deepprofiler.project.networks import TRAINED, require_weight_file
from deepprofiler.project.outcome import LOG, Outcome


def run(project: Project) -> Outcome:
    """Run ``prepare``, ``locate``, ``export-sc``, ``train``, ``profile`` and ``analyze``.

    ``locate`` runs only where the project has no location file at all, or where it was
    interrupted: else a missing one is a site that was not located, and is reported. Nothing is
    exported and trained where ``profile.checkpoint`` names weights that are there already.

    Returns
    -------
    Outcome
        The outcomes of all stages, one after the other.
    """
    # Else a well with two labels would be refused only after training.
    project.index.well_table()
    require_analysis(project, report=project.config.analyze.report)
    require_weight_file(project)
    stages = [prepare, *([locate] if locating_is_needed(project) else [])]
    if project.config.profile.checkpoint in TRAINED:
        stages += [export_cells, train]
    total = Outcome("run", then=f"open {project.report_path}")
    for stage in [*stages, profile, analyze]:
        outcome = stage(project)
        for line in outcome.summary():
            LOG.info("%s", line)
        total.wrote_by[outcome.command] = outcome.wrote or ["nothing new"]
        total.notes += [f"{outcome.command}: {line}" for line in outcome.notes]
        # What a stage repeats of an earlier one is reported by that already.
        total.left_out_by[outcome.command] = dict(outcome.left_out)
    return total
