"""Write a simulated screen into a project."""

from __future__ import annotations

from deepprofiler.project import Project
from deepprofiler.project.outcome import Outcome
from deepprofiler.simulate import Screen
from deepprofiler.simulate import simulate as write_screen

_SCREENS = {"tiny": Screen.tiny, "demo": Screen.demo, "full": Screen}


def simulate(project: Project, *, screen: str = "demo", seed: int = 0) -> Outcome:
    """Write images, index, config and truth of a screen with known mechanisms.

    Parameters
    ----------
    project : Project
        Its folder is made; what an equal screen and seed wrote there is written anew.
    screen : {"tiny", "demo", "full"}
    seed : int
    """
    summary = write_screen(project.root, _SCREENS[screen](), seed, project.workers)
    return Outcome(
        "simulate",
        wrote=[
            f"{summary.sites} sites in {summary.wells} wells on {summary.plates} plates, "
            f"{summary.treatments} treatments, {summary.cells} cells to {project.root}"
        ],
        notes=list(summary.notes),
        then="run",
    )
