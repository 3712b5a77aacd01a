"""Simulate a small screen and run all commands up to the report."""

from __future__ import annotations

from deepprofiler.commands.run import run
from deepprofiler.commands.simulate import simulate
from deepprofiler.project import Project
from deepprofiler.project.outcome import Outcome


def demo(project: Project, *, seed: int = 0) -> Outcome:
    """Write a simulated screen into a project, then run all commands on it.

    Parameters
    ----------
    project : Project
    seed : int
        Seed of the simulation.

    Returns
    -------
    Outcome
    """
    simulated = simulate(project, screen="demo", seed=seed)
    outcome = run(project)
    outcome.wrote_by = {"simulate": simulated.wrote} | outcome.wrote_by
    outcome.notes = [f"simulate: {line}" for line in simulated.notes] + outcome.notes
    return outcome
