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
