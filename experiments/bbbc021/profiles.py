"""Real profiles of BBBC021: every normalization, scored by mechanism of action.

    python experiments/bbbc021/profiles.py DATA --out results.csv

DATA is the folder of ``bbbc021_profiles``: per-well means of CellProfiler features of the 632
annotated wells (Ljosa et al. 2013), the table of images, and the mechanisms. Prints what the README
holds, and writes one row for each normalization and aggregate: NSC and NSCB with their 95 %
intervals (Clopper-Pearson). Nothing here is random but the bootstrap and Harmony's first clusters,
which have seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from selection import READINGS, Reading, largest_sum_goes, only, replicated, select, varied

from deepprofiler.commands.analyze.descriptions import describe_chain
from deepprofiler.evaluation import nsc, nscb
from deepprofiler.evaluation.accuracy import Accuracy
from deepprofiler.evaluation.differences import difference
from deepprofiler.profiling import Profiles, Standardize, group_means, group_medians
from deepprofiler.profiling.chain import Chain, make_chain
from deepprofiler.report.wording import measure_text

PLATE, WELL, WEEK = "Metadata_Plate", "Metadata_Well", "Metadata_Week"
TREATMENT, COMPOUND, MECHANISM = "Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism"
COUNT, MEMBERS = "Metadata_Cell_Count", "Metadata_Well_Count"
ROLES = {"treatment": TREATMENT, "compound": COMPOUND, "mechanism": MECHANISM}

SCREEN = ("standardize", {"per": "screen"})
METHODS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "none": [],
    "plate": [("standardize", {"per": "plate"})],
    "screen": [SCREEN],
    "robust": [("robust", {"per": "screen"})],
    "sphering": [SCREEN, ("sphering", {})],
    "tvn": [SCREEN, ("tvn", {})],
    "tvn_authors": [SCREEN, ("tvn-authors", {})],
    "tvn_efaar": [("tvn-efaar", {})],
    "harmony": [SCREEN, ("harmony", {})],
}
"""Steps of each row, all with their default parameters but for the reference of ``standardize``."""

EXPLANATIONS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "standardize on the 6 DMSO wells of a plate": [("standardize", {"per": "plate"})],
    "on the 18 or more DMSO wells of a week": [("standardize", {"per": "plate", "plate": WEEK})],
    "on the 330 DMSO wells of the screen": [
        ("standardize", {"per": "screen", "reference": "controls"})
    ],
    "on all wells of a plate": [("standardize", {"per": "plate", "reference": "all"})],
    "on all wells of the screen": [SCREEN],
    **{
        f"tvn, shrinkage {rule}": [SCREEN, ("tvn", {"shrinkage": rule})]
        for rule in (0.001, 0.01, 0.1, 1.0, 10.0, "ledoit-wolf", "held-out", "oas")
    },
    "tvn, shrinkage oas, whitening alone": [SCREEN, ("tvn", {"batch": None})],
    "tvn-authors on features as they are": [("tvn-authors", {})],
}
"""Printed beside the results, to tell what decides."""

AGGREGATES = {"mean": group_means, "median": group_medians}


def read_wells(folder: Path) -> Profiles:
    """Read all 516 features of the 632 wells; a batch is a week of imaging."""
    # Not by Profiles.read: the publication takes places and numbers of objects for features too.
    measured = pd.read_csv(folder / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz")
    measured = measured.rename(columns=lambda name: name.removeprefix("Image_"))
    names = [name for name in measured.columns if name not in (PLATE, WELL)]
    text: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    images = pd.read_csv(folder / "BBBC021_v1_image.csv.gz", **text)
    images = images.rename(
        columns=lambda name: name.removesuffix("_DAPI").removeprefix("Image_")
    ).drop_duplicates([PLATE, WELL])
    images["dose"] = images["Metadata_Concentration"].astype(float)
    mechanisms = pd.read_csv(folder / "BBBC021_v1_moa.csv", **text)
    mechanisms["dose"] = mechanisms["concentration"].astype(float)
    wells = measured[[PLATE, WELL]].astype(str)
    table = wells.merge(
        images[[PLATE, WELL, COMPOUND, "dose"]], on=[PLATE, WELL], how="left", validate="1:1"
    ).merge(
        mechanisms.rename(columns={"compound": COMPOUND, "moa": MECHANISM}),
        on=[COMPOUND, "dose"],
        how="left",
        validate="m:1",
    )
    if table[MECHANISM].isna().any():
        raise SystemExit(f"{folder}: a well has no mechanism")
    table[WEEK] = table[PLATE].str.split("_").str[0]
    table[TREATMENT] = table[COMPOUND] + " " + table["dose"].astype(str)
    # Cells were not counted; every well weighs the same.
    table[COUNT] = 1
    columns = [PLATE, WELL, WEEK, COMPOUND, TREATMENT, MECHANISM, COUNT]
    return Profiles(table[columns], measured[names].to_numpy(), names)


def controls_of(profiles: Profiles) -> np.ndarray:
    """Which are DMSO, (n,) bool."""
    return profiles.values(COMPOUND) == "DMSO"


def published(profiles: Profiles, reading: Reading = largest_sum_goes) -> Profiles:
    """The published recipe, up to the profiles of wells."""
    chosen = only(profiles, varied(profiles))
    chosen = only(chosen, replicated(chosen, TREATMENT, 0.5))
    chosen = select(chosen, 0.95, reading)
    fitted = Standardize(plate=PLATE, per="plate").fit(chosen, controls=controls_of(chosen))
    return fitted.transform(chosen)


def normalized(steps: list[tuple[str, dict[str, Any]]], wells: Profiles) -> tuple[Profiles, Chain]:
    """Wells after some steps, and the fitted chain."""
    chain = make_chain(steps, plate=PLATE, batch=WEEK, well=WELL, count=COUNT)
    chain.fit(wells, controls=controls_of(wells))
    return chain.transform(wells), chain


def score(wells: Profiles, aggregate: str, metric: Any = "cosine") -> tuple[Accuracy, Accuracy]:
    """NSC and NSCB of normalized wells; of 103 and 92 treatments, or the protocol is wrong."""
    treated = wells.subset(~controls_of(wells))
    options: Mapping[str, Any] = {"count": COUNT, "members": MEMBERS, "weight": "wells"}
    group = AGGREGATES[aggregate]
    same = nsc(group(treated, [TREATMENT], **options), **ROLES, controls=None, metric=metric)
    other = nscb(
        group(treated, [TREATMENT, WEEK], **options),
        **ROLES,
        batch=WEEK,
        controls=None,
        metric=metric,
    )
    if (same.n, other.n) != (103, 92):
        raise SystemExit(f"NSC is of {same.n} and NSCB of {other.n} treatments, not 103 and 92")
    return same, other


def results(every: Profiles, wells: Profiles) -> dict[tuple[str, str], tuple[Accuracy, Accuracy]]:
    """NSC and NSCB of every method and aggregate; prints what the fits did."""
    recipe = published(every)
    print(f"published recipe: {len(recipe.names)} features")
    accuracies = {("published", "mean"): score(recipe, "mean", "correlation")}
    for method, steps in METHODS.items():
        profiles, chain = normalized(steps, wells)
        print(*describe_chain(chain), sep="\n")
        accuracies |= {(method, aggregate): score(profiles, aggregate) for aggregate in AGGREGATES}
    return accuracies


def table(accuracies: Mapping[tuple[str, str], tuple[Accuracy, Accuracy]]) -> pd.DataFrame:
    """One row of each method and aggregate, with Clopper-Pearson intervals."""
    lines = []
    for (method, aggregate), scores in accuracies.items():
        line: dict[str, Any] = {"method": method, "aggregate": aggregate}
        for name, accuracy in zip(("nsc", "nscb"), scores, strict=True):
            line |= {name: accuracy.value, f"{name}_n": accuracy.n}
            line |= {f"{name}_low": accuracy.exact.low, f"{name}_high": accuracy.exact.high}
        lines.append(line)
    return pd.DataFrame(lines)


def print_gains(accuracies: Mapping[tuple[str, str], tuple[Accuracy, Accuracy]]) -> None:
    """Does TVN improve on its absence? Differences of fixed outcomes, compounds drawn anew."""
    print("\nTVN less its absence, intervals over compounds:")
    for method, base in product(("tvn", "tvn_authors", "tvn_efaar"), ("none", "screen")):
        for aggregate in AGGREGATES:
            for before, after in zip(
                accuracies[base, aggregate], accuracies[method, aggregate], strict=True
            ):
                gain = difference(before, after, name=before.name)
                print(
                    f"{method} less {base}, {aggregate}, {before.name}: {gain.value:+.3f} "
                    f"({gain.by_compound.low:+.3f} to {gain.by_compound.high:+.3f})"
                )


def print_explanations(every: Profiles, wells: Profiles) -> None:
    """What decides: the reference, the shrinkage, and the reading of the feature set."""
    print("\nWhat decides (NSC of 103, NSCB of 92, mean):")
    for name, steps in EXPLANATIONS.items():
        same, cross = score(normalized(steps, wells)[0], "mean")
        print(f"{name}: {same.value * 103:.0f}, {cross.value * 92:.0f}")
    print("\nReadings of the published recipe (NSC of 103):")
    for reading, metric in product(READINGS, ("correlation", "cosine")):
        recipe = published(every, reading)
        same, _ = score(recipe, "mean", metric)
        summary = f"{len(recipe.names)} features, {same.value * 103:.0f}"
        print(f"{reading.__name__}, {metric}: {summary}")
    print("\nReadings of 'one of each pair with |r| > 0.9', tvn, mean:")
    for reading, near_constant in product(READINGS, ("left out", "kept")):
        other = select(every, 0.9, reading, near_constant=near_constant == "kept")
        same, cross = score(normalized(METHODS["tvn"], other)[0], "mean")
        print(
            f"{reading.__name__}, near-constant features {near_constant}: {len(other.names)} "
            f"features, NSC {same.value * 103:.0f} of 103, NSCB {cross.value * 92:.0f} of 92"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results.csv"))
    args = parser.parse_args()
    every = read_wells(args.data)
    wells = select(every)
    print(f"{len(every)} wells, {len(every.names)} features, of which {len(wells.names)} are used")
    accuracies = results(every, wells)
    lines = table(accuracies)
    lines.to_csv(args.out, index=False)
    print(lines.round(3).to_string(index=False))
    print("\nIntervals over compounds:")
    for (method, aggregate), scores in accuracies.items():
        print(f"{method}, {aggregate}: {'; '.join(map(measure_text, scores))}")
    print_gains(accuracies)
    print_explanations(every, wells)


if __name__ == "__main__":
    main()
