"""The step ``report``: read what the report is made of, and write its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.commands.analyze.aggregate import AggregatedWells
from deepprofiler.commands.analyze.descriptions import describe_chain
from deepprofiler.commands.analyze.evaluate import Evaluated
from deepprofiler.commands.analyze.normalize import NormalizedWells
from deepprofiler.errors import DataError
from deepprofiler.imaging import illumination
from deepprofiler.imaging.object_features import CP_MEASURE
from deepprofiler.learning.cell_store import CellStore
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.project.outcome import read_failures
from deepprofiler.project.site_quality import well_quality
from deepprofiler.report.explore import THUMBNAIL
from deepprofiler.report.pictures import composite, display_ranges
from deepprofiler.report.report_inputs import CellPictures, PlateIllumination, ReportInputs
from deepprofiler.report.sections import example_cells, write_page

# Plates whose illumination is shown.
_PLATES_SHOWN = 6
# Cells of a plate that its display range is computed from.
_RANGE_CELLS = 300


def write_report(
    project: Project,
    aggregated: AggregatedWells,
    normalized: NormalizedWells,
    evaluated: Evaluated,
) -> None:
    """Write ``report/index.html``, its figures as PNG and SVG, and their data as CSV.

    Parameters
    ----------
    project : Project
    aggregated : AggregatedWells
        Of the layer that the profile is made of.
    normalized : NormalizedWells
    evaluated : Evaluated
    """
    config, index = project.config, project.index
    channels = list(index.channels)
    store, no_cell_pictures = _open_store(map(project.store_path, index.plates), channels)
    pictures = None
    if store is not None:
        pictures = _cell_pictures(
            store,
            aggregated.sample,
            examples=example_cells(aggregated.sample, evaluated.screen),
            size=config.crops.size,
        )
        no_cell_pictures = "No cells are shown: the sampled cells have no exported crops."
    failures = _failures(project)
    inputs = ReportInputs(
        title=project.root.resolve().name,
        experiment=project.experiment,
        plates=index.plates,
        channels=channels,
        sites=len(index.sites),
        min_cells=config.analyze.min_cells,
        seed=config.dataset.seed,
        embedding=config.analyze.embedding,
        counts=aggregated.counts,
        screen=evaluated.screen,
        chain=normalized.chain,
        normalization_notes=describe_chain(normalized.chain),
        sample=aggregated.sample,
        features=len(aggregated.provenance.names),
        methods=evaluated.methods,
        normalizations=evaluated.normalizations,
        neighbours=evaluated.neighbours,
        failed_sites=aggregated.failed_sites,
        not_finite_cells=aggregated.not_finite,
        failures=failures,
        layers=_read_table(project.profiles_path("layers.csv"), ["layer", "normalization"]),
        quality=well_quality(project),
        illumination=_illumination(
            {plate: project.illumination_path(plate) for plate in index.plates[:_PLATES_SHOWN]},
            channels,
        ),
        history=_read_table(project.history_path),
        cell_pictures=pictures,
        no_cell_pictures=no_cell_pictures,
        provenance=_provenance(project, aggregated, normalized, failures),
        config=config.to_yaml(),
    )
    write_page(inputs, project.report_folder)


def _provenance(
    project: Project,
    aggregated: AggregatedWells,
    normalized: NormalizedWells,
    failures: pd.DataFrame | None,
) -> dict[str, str]:
    """What the numbers were made with."""
    config, features = project.config, aggregated.provenance
    values = {
        "date": date.today().isoformat(),
        "seed": str(config.dataset.seed),
        "model": config.train.model.name,
        "weights": features.checkpoint,
        "digest of the weights": features.digest,
        "layer": ", ".join(features.layers),
        "channels": ", ".join(features.channels),
        "size of crops": f"{features.crop_size} × {features.crop_size} pixels",
        "crop rescale rule": features.rescale,
        "normalization": " + ".join(step.name for step in normalized.chain.steps) or "none",
        "index": project.index_path.name,
        "config": project.config_path.name,
    }
    if failures is not None:
        by_stage = Counter(failures["stage"])
        values["failures"] = "; ".join(f"{n} in {stage}" for stage, n in by_stage.items())
    return values | features.versions


def _failures(project: Project) -> pd.DataFrame | None:
    """All failures of all commands, one row per site, well or cell; None where nothing failed."""
    stages = ["prepare", "locate", "export-sc", "profile"]
    if project.config.analyze.classical == CP_MEASURE:
        stages.append("analyze")
    rows = [
        row
        for stage in stages
        for path in project.failed_paths(stage)
        for row in read_failures(path, stage)
    ]
    if not rows:
        return None
    table = pd.DataFrame([vars(row) for row in rows])
    # A site that one command cannot read fails in the next ones too: the last is listed.
    return table.drop_duplicates(["plate", "well", "site", "cell"], keep="last")


def _read_table(path: Path, text: Iterable[str] = ()) -> pd.DataFrame | None:
    """Read a table, some columns as text; None where there is no file."""
    return pd.read_csv(path, dtype=dict.fromkeys(text, str)) if path.exists() else None


def _illumination(
    paths: Mapping[str, Path], channels: Sequence[str]
) -> dict[str, PlateIllumination]:
    """Read illumination functions by plate; none where one has other channels."""
    plates = {plate: illumination.load(path) for plate, path in paths.items() if path.exists()}
    if any(list(measured.channels) != list(channels) for measured in plates.values()):
        return {}
    return {
        plate: PlateIllumination(measured.function, measured.percentiles)
        for plate, measured in plates.items()
    }


# Pictures of the sampled cells.


def _open_store(paths: Iterable[Path], channels: Sequence[str]) -> tuple[CellStore | None, str]:
    """Open the exported crops; where they cannot be shown, give None and the reason."""
    existing = [path for path in paths if path.exists()]
    if not existing:
        return None, "No cells are shown because no crops are exported; run `export-sc`."
    try:
        store = CellStore(existing)
    except DataError as error:
        return None, f"No cells are shown: {error}"
    if list(store.channels) != list(channels):
        names = ", ".join(store.channels)
        return None, f"No cells are shown because the exported crops have other channels: {names}."
    return store, ""


def _cell_pictures(
    store: CellStore, sample: Profiles, *, examples: Sequence[np.ndarray], size: int
) -> CellPictures | None:
    """Make thumbnails of the sampled cells, and large pictures of examples of each treatment.

    Parameters
    ----------
    store : CellStore
    sample : Profiles
    examples : sequence of ndarray
        Rows of the sample.
    size : int
        Side of the middle of the crops that is shown, in pixels.

    Returns
    -------
    CellPictures or None
        None where no sampled cell has a crop.
    """
    keys = [PLATE, WELL, SITE, CELL]
    stored = pd.MultiIndex.from_frame(store.table[keys])
    slots = stored.get_indexer(pd.MultiIndex.from_frame(sample.metadata[keys]))
    if not (slots >= 0).any():
        return None
    size = min(size, store.size)
    first = (store.size - size) // 2
    step = max(1, size // THUMBNAIL)
    whole, coarse = slice(first, first + size), slice(first, first + size, step)
    side = len(range(0, size, step))
    thumbnails = np.zeros((len(sample), side, side, 3), np.uint8)
    pictures: dict[int, np.ndarray] = {}
    large = np.isin(np.arange(len(sample)), np.concatenate([np.empty(0, int), *examples]))
    # Plate by plate, so that whole crops of only one are in memory.
    for plate in set(sample.values(PLATE)[slots >= 0]):
        of_plate = np.flatnonzero((store.table[PLATE] == plate).to_numpy())
        spread = of_plate[:: max(1, len(of_plate) // _RANGE_CELLS)]
        ranges = display_ranges(_intensities(store, spread, whole))
        rows = np.flatnonzero((sample.values(PLATE) == plate) & (slots >= 0))
        thumbnails[rows] = composite(_intensities(store, slots[rows], coarse), ranges)
        rows = rows[large[rows]]
        if len(rows):
            shown = composite(_intensities(store, slots[rows], whole), ranges)
            pictures |= zip(rows.tolist(), shown, strict=True)
    return CellPictures(thumbnails, pictures)


def _intensities(store: CellStore, slots: np.ndarray, part: slice) -> np.ndarray:
    """Read a part of crops, in intensities of the images, (n, s, s, C) float32."""
    crops, minimum, maximum = store.gather(slots)
    low, high = minimum[:, None, None], maximum[:, None, None]
    return np.asarray(crops[:, part, part] * ((high - low) / 255) + low, np.float32)
