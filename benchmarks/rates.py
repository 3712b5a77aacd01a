"""How fast each stage is on this machine: ``python benchmarks/rates.py [--screen tiny]``.

Simulates a screen in a temporary folder, runs every stage once, and prints what each got through
per second of wall time, with the peak memory of the process so far. The limit that a test holds:
the simulator draws and writes at least 3 sites of 512 × 512 × 3 a second on one core.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from deepprofiler.commands.analyze import analyze
from deepprofiler.commands.export_cells import export_cells
from deepprofiler.commands.locate import locate
from deepprofiler.commands.prepare import prepare
from deepprofiler.commands.profile import profile
from deepprofiler.commands.simulate import simulate
from deepprofiler.commands.train import train
from deepprofiler.project import Project
from deepprofiler.project.well_file import iterate
from deepprofiler.simulate import ScreenDesign, ScreenPaths
from deepprofiler.simulate import simulate as write_screen


def timed(what: str, unit: str, count: Callable[[], float], action: Callable[[], object]) -> None:
    """Print the rate of one action."""
    start = time.perf_counter()
    action()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:34s} {count() / seconds:9.1f} {unit}/s {seconds:8.1f} s  peak {peak:6.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--screen", choices=["tiny", "demo"], default="tiny")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large = replace(ScreenDesign(), batches=2, plates=1, sites=1, compounds=2, doses=(10.0,))
        parent = Path(folder) / "large"
        paths = ScreenPaths(parent / "images", parent / "index.csv", parent / "truth")
        sites: list[int] = []
        timed(
            "simulate 512 × 512 × 3, one core",
            "sites",
            lambda: sites[0],
            lambda: sites.append(write_screen(paths, large, 0).sites),
        )
        project = Project(Path(folder) / "screen")
        simulate(project, screen=options.screen)
        total = len(project.index.sites)
        epochs = project.config.train.epochs

        def cells() -> float:
            paths = [project.well_path(well.plate, well.well) for well in project.index.wells()]
            return sum(len(well.cells) for well in iterate(paths))

        timed("prepare", "sites", lambda: total, lambda: prepare(project))
        timed("locate", "sites", lambda: total, lambda: locate(project))
        timed("export-sc", "sites", lambda: total, lambda: export_cells(project))
        timed("train, an epoch", "epochs", lambda: epochs, lambda: train(project))
        timed("profile", "cells", cells, lambda: profile(project))
        timed("analyze, with random weights", "cells", cells, lambda: analyze(project))


if __name__ == "__main__":
    main()
