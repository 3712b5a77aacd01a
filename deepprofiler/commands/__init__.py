"""One file per command; each reads what the one before left on disk and calls the rooms below.

In Python a command is a function of a project, and mirrors the command of its name::

    from deepprofiler.project import Project
    from deepprofiler.commands.prepare import prepare

    prepare(Project("project/"))

What a command can be told is an argument of that function; ``cli.py`` declares the option for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepprofiler.errors import ConfigError, nearest

if TYPE_CHECKING:
    from deepprofiler.project import Project
    from deepprofiler.project.outcome import Outcome


def run_earlier(project: Project, command: str, reason: str, **options: Any) -> Outcome:
    """Run an earlier command whose outputs are missing or outdated, and say so.

    Its module is imported when it runs: a command that misses nothing loads nothing of it.

    Parameters
    ----------
    project : Project
    command : str
        Name of a module of this package and of the function in it, such as ``prepare``.
    reason : str
        Why it runs, such as "some wells have no features".
    **options
        Arguments of the command.

    Returns
    -------
    Outcome
        Of that command.
    """
    from deepprofiler.project.outcome import LOG

    LOG.info("%s: running %s first", reason, command.replace("export_cells", "export-sc"))
    outcome: Outcome = getattr(import_module(f"{__name__}.{command}"), command)(project, **options)
    return outcome


def require_experiment(project: Project) -> None:
    """Refuse to begin an experiment that may be a slip.

    Its name may be mistyped, or ``--exp`` forgotten: then hours of work would begin anew, and the
    results that were meant would not be looked at.

    Raises
    ------
    ConfigError
        Nothing of the experiment exists, and either it was named, or others exist.
    """
    if project.has_experiment() or not (project.experiment_is_named or project.experiments()):
        return
    raise ConfigError(
        f"there are no features to analyze in {project.experiment_folder}; run `profile` to make "
        f"them; {other_experiments(project)}"
    )


def other_experiments(project: Project) -> str:
    """Say which experiments could be named in place of this one."""
    own = project.experiment_folder.name
    others = [name for name in project.experiments() if name != own]
    if not others:
        return "no other experiment exists"
    return f"choose an experiment that exists with --exp: {', '.join(others)}{nearest(own, others)}"
