"""Real plate BBBC013: train on replicates 1 to 3, evaluate on replicate 4.

    python experiments/bbbc013/run.py DATA [--root FOLDER] [--permuted] [--epochs N]

DATA is the folder with ``index.csv`` and ``images/``. The project is created in FOLDER (default
``bbbc013-project``), all commands run, and ``FOLDER/results.csv`` has the results of the README.
``--permuted`` also trains on treatment labels that are permuted among wells within replicates.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import yaml
from figures import Figures
from plate import lay_out, permute_treatments

from deepprofiler.commands.profile import profile
from deepprofiler.commands.run import run
from deepprofiler.commands.train import train
from deepprofiler.progress import start_logging
from deepprofiler.project import Project

CONFIG = {
    "dataset": {"channels": ["FKHR", "DNA"], "seed": 0},
    "crops": {"size": 48},
    "train": {
        "epochs": 8,
        "batch_size": 64,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "schedule": "cosine",
        "augment": {"shift": 4},
        "validation": {"by": "column"},
    },
    "profile": {"layers": ["conv4a"], "batch_size": 256},
}
RANDOM_SEEDS = range(5)


def make_project(data: Path, root: Path, epochs: int) -> Project:
    """Create a project of the plate; only missing files are copied."""
    project = Project(root)
    lay_out(project, data)
    config = {**CONFIG, "train": {**CONFIG["train"], "epochs": epochs}}
    project.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
    return project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--root", type=Path, default=Path("bbbc013-project"))
    parser.add_argument("--permuted", action="store_true")
    parser.add_argument("--epochs", type=int, default=CONFIG["train"]["epochs"])
    options = parser.parse_args()
    start_logging(20)
    started = time.monotonic()
    project = make_project(options.data, options.root, options.epochs)
    run(project)
    for seed in RANDOM_SEEDS:
        profile(project, random_seed=seed)
    print(f"all commands: {time.monotonic() - started:.0f} s")
    figures = Figures(project)
    table = [figures.learned("learned", project)]
    if options.permuted:
        name = "index-permuted.csv"
        permute_treatments(project, name, seed=1)
        permuted = Project(options.root, experiment="permuted", index_name=name)
        train(permuted)
        profile(permuted)
        table.append(figures.learned("learned, permuted treatments", permuted))
    table += [figures.random(seed) for seed in RANDOM_SEEDS]
    table.append(figures.cell_count())
    results = pd.DataFrame(table)
    results.to_csv(options.root / "results.csv", index=False)
    print(results.T.to_string(header=False))
    print(json.dumps({"seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
