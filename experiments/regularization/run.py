"""The paper's regularizers against the baseline, on a simulated screen and a real plate.

    python experiments/regularization/run.py [--plate DATA] [--root FOLDER] [--seeds 0 1 2]
                                             [--processes 2]

All methods see the same number of cells in the same number of steps. The projects are in FOLDER
(default ``regularization``): ``FOLDER/screen`` and, if DATA is the folder of BBBC013,
``FOLDER/plate``. ``FOLDER/results.csv`` has one row per run. Runs that are in it are not repeated,
and an interrupted run continues after its last epoch. ``FOLDER/summary.csv`` is the table of the
README. Runs are distributed over the processes, each of which uses one core.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from deepprofiler.commands.analyze.aggregate import average_wells
from deepprofiler.commands.analyze.evaluate import Protocol
from deepprofiler.commands.export_cells import export_cells
from deepprofiler.commands.locate import locate
from deepprofiler.commands.profile import profile
from deepprofiler.commands.simulate import simulate
from deepprofiler.commands.train import train
from deepprofiler.evaluation.scores import score
from deepprofiler.learning import devices as device
from deepprofiler.progress import start_logging
from deepprofiler.project import Project
from deepprofiler.simulate import ScreenDesign

sys.path.append(str(Path(__file__).parent.parent / "bbbc013"))

CELLS_A_BATCH = 48
EPOCHS = 2
CELLS_SEEN = {"screen": 8_000, "plate": 6_000}
PERMUTED = "permuted treatments"


@dataclass(frozen=True)
class Method:
    """A crop generator with its parameters, and other differences from the baseline."""

    generator: str = "single"
    params: tuple[tuple[str, float], ...] = ()
    cells: int = 1
    index_name: str = "index.csv"
    mask: bool = False


METHODS = {
    "baseline": Method(),
    PERMUTED: Method(index_name="index-permuted.csv"),
    **{f"sequence {t}": Method("sequence", (("length", t),), cells=t) for t in (3, 5, 8)},
    **{
        f"mixup {alpha}": Method("mixup", (("alpha", alpha),), cells=2) for alpha in (0.1, 0.2, 0.4)
    },
    "masked crops": Method(mask=True),
}
RANDOM = "random weights"


def make_screen(root: Path) -> Project:
    """Simulate the screen of ``demo``, with crops of 64 pixels."""
    simulate(Project(root, cores=2), screen=replace(ScreenDesign.demo(), crop_size=64))
    return Project(root, config_name="baseline.yaml")


def make_plate(root: Path, data: Path) -> Project:
    """Make a project of BBBC013."""
    from plate import lay_out

    project = Project(root, config_name="baseline.yaml")
    lay_out(project, data)
    return project


def write_configs(project: Project, dataset: str) -> None:
    """Write a config file for each method."""
    channels, size, batch = (
        (["DNA", "Tubulin", "Actin"], 64, "Metadata_Batch")
        if dataset == "screen"
        else (["FKHR", "DNA"], 48, None)
    )
    for name, method in METHODS.items():
        examples = round(CELLS_A_BATCH / method.cells)
        config: dict[str, Any] = {
            "dataset": {"channels": channels, "columns": {"batch": batch}},
            "crops": {"size": size, "mask": method.mask},
            "train": {
                "model": "recurrent" if method.generator == "sequence" else "resnet18",
                "generator": {"name": method.generator, "params": dict(method.params)},
                "epochs": EPOCHS,
                "steps": round(CELLS_SEEN[dataset] / EPOCHS / (examples * method.cells)),
                "batch_size": examples,
                "optimizer": "adam",
                "learning_rate": 0.001,
                "schedule": "cosine",
                "validation": {"by": "column"},
            },
            "profile": {"layers": ["conv4a"], "batch_size": 256},
        }
        path = project.config_folder / f"{file_stem(name)}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))


def file_stem(name: str) -> str:
    return name.replace(" ", "-").replace(".", "_")


def of_method(root: Path, name: str, seed: int, index_name: str | None = None) -> Project:
    """Project with the config and the experiment of a method and a seed."""
    method = METHODS[name]
    return Project(
        root,
        config_name=f"{file_stem(name)}.yaml",
        experiment=f"{file_stem(name)}-{seed}",
        single_cells="masked-cells" if method.mask else "single-cells",
        index_name=index_name or method.index_name,
        cores=1,
    )


def run_method(root: Path, dataset: str, name: str, seed: int) -> dict[str, object]:
    """Train and profile one method with one seed, and evaluate its features."""
    started = time.monotonic()
    start_logging(30)
    device.choose(-1, cores=1)
    row: dict[str, object] = {"dataset": dataset, "method": name, "seed": seed}
    if name == RANDOM:
        project = Project(root, config_name="baseline.yaml", experiment="random", cores=1)
        profile(project, random_seed=seed)
        row |= evaluate(project, dataset, f"random-{seed}")
        return row | {"seconds": round(time.monotonic() - started)}
    project = of_method(root, name, seed)
    train(project, seed=seed)
    profile(project)
    last = pd.read_csv(project.history_path).iloc[-1]
    row |= {
        "training accuracy": last["accuracy"],
        "validation accuracy": last["val_accuracy"],
        "validation macro accuracy": last["val_macro_accuracy"],
        **evaluate(of_method(root, name, seed, "index.csv"), dataset, None),
    }
    return row | {"seconds": round(time.monotonic() - started)}


def evaluate(project: Project, dataset: str, baseline: str | None) -> dict[str, object]:
    """Scores of the main goal, with the true treatments."""
    aggregated = average_wells(project, baseline)
    if dataset == "plate":
        from figures import COMPOUNDS, NORMALIZATIONS, dose_correlation, normalize, retrieval

        scores_by_name: dict[str, object] = {}
        for name in NORMALIZATIONS:
            wells = normalize(aggregated, name)
            scores_by_name[f"mAP ({name})"] = retrieval(wells).value
            for compound in COMPOUNDS:
                scores_by_name[f"dose, {compound} ({name})"] = dose_correlation(wells, compound)
        return scores_by_name
    protocol = Protocol.of(project)
    steps = protocol.normalization.steps_for(aggregated.wells)
    screen = protocol.normalize(aggregated.wells, aggregated.cells, steps)
    scores = score(screen, protocol.evaluations, name=project.experiment)
    return {
        scores.main[key].name: scores.main[key].value
        for key in ("nsc", "nscb", "replicate-accuracy")
    }


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds, as text."""
    figures = [c for c in results.columns if c not in ("dataset", "method", "seed", "seconds")]
    rows = []
    for (dataset, method), group in results.groupby(["dataset", "method"], sort=False):
        row = {"dataset": dataset, "method": method, "seeds": len(group)}
        for figure in figures:
            values = group[figure].dropna()
            if len(values):
                spread = values.std() if len(values) > 1 else float("nan")
                row[figure] = f"{values.mean():.3f} ± {spread:.3f}"
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plate", type=Path, help="folder of BBBC013: index.csv and images/")
    parser.add_argument("--root", type=Path, default=Path("regularization"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    from plate import permute_treatments

    start_logging(20)
    roots = {"screen": options.root / "screen"}
    if options.plate:
        roots["plate"] = options.root / "plate"
    for dataset, root in roots.items():
        project = make_screen(root) if dataset == "screen" else make_plate(root, options.plate)
        write_configs(project, dataset)
        permute_treatments(project, METHODS[PERMUTED].index_name, seed=1)
        locate(project, labels=True)
        for name in ("baseline", "masked crops"):
            export_cells(of_method(root, name, 0))
    path = options.root / "results.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    finished = {(row["dataset"], row["method"], row["seed"]) for row in rows}
    remaining = [
        (dataset, name, seed)
        for seed in options.seeds
        for dataset in roots
        for name in (RANDOM, *METHODS)
        if (dataset, name, seed) not in finished
    ]
    started = time.monotonic()
    # Each run has its own process, which releases the memory of TensorFlow at its end.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn, max_tasks_per_child=1) as pool:
        runs = [pool.submit(run_method, roots[run[0]], *run) for run in remaining]
        for run in as_completed(runs):
            rows.append(run.result())
            pd.DataFrame(rows).to_csv(path, index=False)
            print(rows[-1], flush=True)
    results = pd.DataFrame(rows).sort_values(["dataset", "seed"], kind="stable")
    summary = summarize(results)
    summary.to_csv(options.root / "summary.csv", index=False)
    print(summary.to_string(index=False))
    print(f"{len(remaining)} runs in {(time.monotonic() - started) / 60:.0f} min")


if __name__ == "__main__":
    main()
