"""Write a simulated screen into a project."""

from __future__ import annotations

from pathlib import Path

import yaml

from deepprofiler.files import replacing
from deepprofiler.project import Project
from deepprofiler.project.outcome import Outcome
from deepprofiler.simulate import ScreenDesign, ScreenPaths
from deepprofiler.simulate import simulate as write_screen

_SCREENS = {"tiny": ScreenDesign.tiny, "demo": ScreenDesign.demo, "full": ScreenDesign}


def simulate(
    project: Project,
    *,
    screen: str | ScreenDesign = "demo",
    seed: int = 0,
    locations: bool = False,
) -> Outcome:
    """Write images, index, config and truth of a screen with known mechanisms.

    Parameters
    ----------
    project : Project
        Its folder is created. Files of the same screen and seed are written again, except for a
        config that was edited.
    screen : {"tiny", "demo", "full"} or ScreenDesign
    seed : int
    locations : bool
        Also write the true locations of the cells, so that ``locate`` has nothing to do.

    Returns
    -------
    Outcome
    """
    design = _SCREENS[screen]() if isinstance(screen, str) else screen
    paths = ScreenPaths(
        images=project.images_folder,
        index=project.index_path,
        truth=project.locations_folder.with_name("truth"),
        locations=project.locations_folder if locations else None,
    )
    summary = write_screen(paths, design, seed, project.workers)
    config = project.first_config_path
    notes = []
    if not _write_config(config, paths.config, _config(design)):
        notes.append(f"kept {config}, since it was edited or not written by simulate")
    return Outcome(
        "simulate",
        wrote=[
            f"{summary.sites} sites in {summary.wells} wells on {summary.plates} plates, "
            f"{summary.treatments} treatments, {summary.cells} cells to {project.root}"
        ],
        notes=notes,
        then="run",
    )


def _write_config(path: Path, copy: Path, text: str) -> bool:
    """Write the config, and a copy that tells later whether it was edited; keep an edited one."""
    if path.exists():
        unedited = {text} | ({copy.read_text(encoding="utf-8")} if copy.exists() else set())
        if path.read_text(encoding="utf-8") not in unedited:
            return False
    for file in (path, copy):
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return True


def _config(design: ScreenDesign) -> str:
    """A short config; every other key keeps its default."""
    sections = {
        "dataset": {"channels": list(design.channels)},
        "crops": {"size": design.crop_size},
        "train": {
            "epochs": design.epochs,
            "batch_size": design.batch_size,
            "optimizer": "adam",
            "learning_rate": design.learning_rate,
            "schedule": "cosine",
        },
    }
    return yaml.safe_dump(sections, sort_keys=False)
