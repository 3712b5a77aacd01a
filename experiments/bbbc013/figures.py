"""The results of the BBBC013 experiment, computed in the same way for all sets of features."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from deepprofiler.columns import COUNT
from deepprofiler.commands.analyze.aggregate import AggregatedWells, average_wells
from deepprofiler.evaluation.retrieval import AveragePrecision, Ranking, mean_average_precision
from deepprofiler.profiling.averages import cell_count_profiles
from deepprofiler.profiling.chain import make_chain
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.project.well_file import iterate

COMPOUNDS = ("Wortmannin", "LY294002")
# TVN is the default of `analyze`, which is fitted on the cells of the controls.
NORMALIZATIONS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "none": [],
    "TVN": [("standardize", {}), ("tvn", {})],
    "TVN on wells": [("standardize", {"per": "screen"}), ("tvn", {"fit_on": "wells"})],
}
HELD_OUT = "4"


class Figures:
    """Evaluates features by the true labels of the plate.

    Parameters
    ----------
    project : Project
        With the true index. Of other projects only the features are used.
    """

    def __init__(self, project: Project):
        self.project = project

    def learned(self, name: str, trained: Project) -> dict[str, object]:
        """Evaluate a trained network: its head on replicate 4, and its features."""
        history = pd.read_csv(trained.history_path)
        last = history.iloc[-1]
        features = Project(self.project.root, experiment=trained.experiment)
        return {
            "features": name,
            "head, macro accuracy": last["val_macro_accuracy"],
            "head, accuracy": last["val_accuracy"],
            "head, training accuracy": last["accuracy"],
            **self._of_features(features, None),
        }

    def random(self, seed: int) -> dict[str, object]:
        """Evaluate random weights."""
        return {
            "features": f"random weights, seed {seed}",
            **self._of_features(self.project, f"random-{seed}"),
        }

    def cell_count(self) -> dict[str, object]:
        """Evaluate the number of cells alone."""
        wells = cell_count_profiles(average_wells(self.project).wells, count=COUNT)
        return {"features": "cell count", **_evaluate(wells, "none")}

    def _of_features(self, project: Project, baseline: str | None) -> dict[str, object]:
        aggregated = average_wells(project, baseline)
        results: dict[str, object] = {"probe, macro accuracy": _probe(project, baseline)}
        for name in NORMALIZATIONS:
            results |= _evaluate(normalize(aggregated, name), name)
        return results


def normalize(aggregated: AggregatedWells, name: str) -> Profiles:
    """Apply one of the normalizations to the profiles of wells."""
    wells, steps = aggregated.wells, NORMALIZATIONS[name]
    if not steps:
        return wells
    chain = make_chain(steps, plate="Metadata_Plate", batch="Metadata_Plate")
    controls = wells.values("Metadata_Control") == "negative"
    return chain.fit(wells, controls=controls, cells=aggregated.cells).transform(wells)


def retrieval(wells: Profiles) -> AveragePrecision:
    """Mean average precision of retrieving a treatment of replicate 4 in replicates 1 to 3."""
    replicate = wells.values("Metadata_Replicate")
    return mean_average_precision(
        wells,
        Ranking(label="Metadata_Treatment", metric="euclidean"),
        controls=wells.values("Metadata_Control") == "negative",
        queries=replicate == HELD_OUT,
        candidates=replicate != HELD_OUT,
    )


def _evaluate(wells: Profiles, normalization: str) -> dict[str, object]:
    """Retrieval, and checks of controls, doses and neighbours, by Euclidean distance."""
    results = {
        "mAP": retrieval(wells).value,
        "controls confused": _confused_controls(wells),
        **{f"dose, {name}": dose_correlation(wells, name) for name in COMPOUNDS},
        **{f"neighbours of 08, 09, {name}": _neighbours(wells, name) for name in COMPOUNDS},
    }
    return {f"{key} ({normalization})": value for key, value in results.items()}


def _confused_controls(wells: Profiles) -> int:
    """Count positive and negative control wells whose nearest control well is of the other kind."""
    control = wells.values("Metadata_Control").astype(str)
    rows = np.flatnonzero(np.isin(control, ["negative", "positive"]))
    distances = cdist(wells.features[rows], wells.features[rows])
    np.fill_diagonal(distances, np.inf)
    return int((control[rows][distances.argmin(axis=1)] != control[rows]).sum())


def _means(wells: Profiles) -> dict[str, np.ndarray]:
    """Mean of the wells of each treatment."""
    names = wells.values("Metadata_Treatment").astype(str)
    return {name: wells.features[names == name].mean(axis=0) for name in np.unique(names)}


def dose_correlation(wells: Profiles, compound: str) -> float:
    """Rank correlation of doses 1 to 9 with the distances of their means from the mean of DMSO."""
    means = _means(wells)
    doses = np.arange(1, 10)
    distances = [np.linalg.norm(means[f"{compound}_{d:02d}"] - means["DMSO"]) for d in doses]
    return float(spearmanr(doses, distances).statistic)


def _neighbours(wells: Profiles, compound: str) -> str:
    """Nearest treatment of the other compound, or DMSO, for doses 08 and 09."""
    means = _means(wells)
    others = [name for name in means if not name.startswith(compound)]
    nearest = []
    for dose in ("08", "09"):
        query = means[f"{compound}_{dose}"]
        nearest.append(min(others, key=lambda name: float(np.linalg.norm(means[name] - query))))
    return ", ".join(nearest)


def _probe(project: Project, baseline: str | None) -> float:
    """Macro accuracy on replicate 4 of a logistic regression fitted on replicates 1 to 3."""
    table = project.index.well_table()
    paths = [project.well_path(w.plate, w.well, baseline) for w in project.index.wells()]
    features, labels, held_out = [], [], []
    for row, well in zip(table.itertuples(), iterate(paths), strict=True):
        if row.Metadata_Compound == "DMSO":
            continue
        features.append(well.features)
        labels += [row.Metadata_Treatment] * len(well.features)
        held_out += [row.Metadata_Replicate == HELD_OUT] * len(well.features)
    scaled = np.concatenate(features)
    names, test = np.array(labels), np.array(held_out)
    scaled = StandardScaler().fit(scaled[~test]).transform(scaled)
    model = LogisticRegression(C=0.01, max_iter=300).fit(scaled[~test], names[~test])
    return float(balanced_accuracy_score(names[test], model.predict(scaled[test])))
