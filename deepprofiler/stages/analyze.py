"""From single cells to evaluated treatments: average, normalize, match, report."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from deepprofiler.config import Named
from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.metadata import FLAG, PLATE, WELL
from deepprofiler.profiling.chain import Chain, make_chain
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.stages.outcome import LOG, Outcome
from deepprofiler.stages.profile import RANDOM, profile
from deepprofiler.stages.report import write_report
from deepprofiler.stages.scores import Scores, count_scores, negative_rows, score, treatments_of
from deepprofiler.stages.wells import Gathered, gather, with_enough_cells

SCORES = [
    "method",
    "metric",
    "value",
    "n",
    "left_out",
    "low",
    "high",
    "low_over_compounds",
    "high_over_compounds",
    "chance",
    "similarity",
]


def analyze(project: Project) -> Outcome:
    """Write ``outputs/<experiment>/profiles`` and ``report/index.html``.

    Parameters
    ----------
    project : Project

    Returns
    -------
    Outcome

    Raises
    ------
    DataError
        No well has cells, or the normalization cannot be fitted (its message says what it needs).
    """
    index, settings = project.index, project.config.analyze
    seed = project.config.dataset.seed
    outcome = Outcome("analyze", then=f"open {project.report_path}")
    if not all(project.well_path(well.plate, well.well).exists() for well in index.wells()):
        LOG.info("wells have no features yet: running profile first")
        profiled = profile(project)
        outcome.left_out = {f"{what} (profile)": n for what, n in profiled.left_out.items()}
    gathered = gather(project)
    if gathered.not_finite:
        outcome.left_out["cells with features that are not finite"] = gathered.not_finite
    chain = fit_chain(project, gathered)
    for note in chain.notes_:
        LOG.info("%s", note)
    covered = chain.covers(gathered.wells)
    wells = chain.transform(gathered.wells.subset(covered))
    if not covered.all():
        outcome.notes.append(
            f"{int((~covered).sum())} well(s) are of plates or batches without a well of "
            f"{settings.min_cells} cells, and are only in wells-unnormalized.parquet"
        )
    untrained = project.config.profile.checkpoint == RANDOM
    usable = with_enough_cells(wells)
    methods = [
        score(
            usable,
            index,
            settings.weight,
            seed,
            name="the untrained profile" if untrained else "the learned profile",
            about=f"{project.config.train.model.name}, weights {gathered.origin.checkpoint}",
        )
    ]
    if settings.baselines and (methods[0].results or methods[0].undefined):
        methods += _baselines(project, gathered, seed, outcome)
    _write_tables(project, gathered, wells, chain, methods)
    outcome.wrote.append(f"{len(wells)} wells to {project.profiles_folder}")
    few = int(wells.values(FLAG).sum())
    none = len(gathered.counts) - len(gathered.wells)
    if none:
        outcome.notes.append(f"{none} well(s) without cells are in counts.csv only")
    if few:
        outcome.notes.append(
            f"{few} well(s) with fewer than {settings.min_cells} cells took no part in any fit or "
            "score; they are in the tables, flagged"
        )
    for name, result in methods[0].results.items():
        outcome.notes.append(
            f"{result}; {'; '.join(result.notes)}" if result.notes else f"{result}"
        )
        for other in methods[1:]:
            if name in other.results:
                outcome.notes.append(f"  {other.name}: {other.results[name]}")
    outcome.notes += [f"{what}: {why}" for what, why in methods[0].undefined.items()]
    if settings.report:
        write_report(project, gathered, wells, chain, methods)
        outcome.wrote.append(f"the report {project.report_path}")
    return outcome


def fit_chain(project: Project, gathered: Gathered) -> Chain:
    """Fit the configured normalization on the wells with enough cells and the controls."""
    index = project.index
    wells = with_enough_cells(gathered.wells)
    if not len(wells):
        raise DataError(
            f"no well has analyze.min_cells = {project.config.analyze.min_cells} cells; lower it"
        )
    controls = negative_rows(index, wells)
    steps = project.config.analyze.normalize
    if steps is None:
        chosen = ["standardize", "tvn"]
        if not controls.any():
            LOG.warning(
                "no well is a negative control (`%s` in the control column), which TVN needs: "
                "profiles are standardized only",
                index.control,
            )
            chosen = ["standardize"]
        steps = tuple(Named(name=name) for name in chosen)
    chain = make_chain(
        [(step.name, step.params) for step in steps], plate=PLATE, batch=index.roles["batch"]
    )
    cells = gathered.controls if gathered.controls.groups else None
    return chain.fit(wells, controls=controls, cells=cells)


def _baselines(
    project: Project, gathered: Gathered, seed: int, outcome: Outcome
) -> Iterator[Scores]:
    """Score untrained weights and the cell count under the same protocol."""
    weight = project.config.analyze.weight
    name = f"random-{seed}"
    LOG.info("the same network with random weights, as a baseline")
    try:
        profile(project, random_seed=seed)
        random = gather(project, name)
        if random.origin.digest != gathered.origin.digest:
            chain = fit_chain(project, random)
            wells = chain.transform(random.wells.subset(chain.covers(random.wells)))
            yield score(
                with_enough_cells(wells),
                project.index,
                weight,
                seed,
                name="random weights",
                about=f"the same network, untrained, seed {seed}, normalized in the same way",
            )
    except DataError as error:
        # Profiles and scores stand without it, for instance where the images are elsewhere.
        outcome.notes.append(f"no baseline of random weights: {error}")
    kept = with_enough_cells(gathered.wells)
    yield count_scores(kept, project.index, weight, seed)


def _write_tables(
    project: Project,
    gathered: Gathered,
    wells: Profiles,
    chain: Chain,
    methods: list[Scores],
) -> None:
    """Write profiles, counts and scores."""
    index, weight = project.index, project.config.analyze.weight
    gathered.wells.write(project.profiles_path("wells-unnormalized.parquet"))
    wells.write(project.profiles_path("wells.parquet"))
    if index.has("treatment"):
        kept = with_enough_cells(wells)
        treatments = treatments_of(kept, index, weight)
        treatments.write(project.profiles_path("treatments.parquet"))
    _write_csv(project, "counts.csv", gathered.counts.sort_values([PLATE, WELL], kind="stable"))
    left_out = [{"feature": name, "reason": why} for name, why in chain.left_out_.items()]
    _write_csv(
        project, "features-left-out.csv", pd.DataFrame(left_out, columns=["feature", "reason"])
    )
    scores = [
        {
            "method": method.name,
            "metric": name,
            "value": result.value,
            "n": result.n,
            "left_out": result.total - result.n,
            "low": result.exact.low,
            "high": result.exact.high,
            "low_over_compounds": result.by_compound.low,
            "high_over_compounds": result.by_compound.high,
            "chance": result.chance,
            "similarity": result.metric,
        }
        for method in methods
        for name, result in method.results.items()
    ]
    _write_csv(project, "scores.csv", pd.DataFrame(scores, columns=SCORES))


def _write_csv(project: Project, name: str, table: pd.DataFrame) -> None:
    with replacing(project.profiles_path(name)) as temporary:
        table.to_csv(temporary, index=False)
