"""The report page of an experiment: figures, their data, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from deepprofiler.imaging import illumination
from deepprofiler.learning.cells import CellStore
from deepprofiler.metadata import CELL, COUNT, FLAG, PLATE, SITE, WELL, Index
from deepprofiler.profiling import pictures, plates, plot
from deepprofiler.profiling.accuracy import Accuracy
from deepprofiler.profiling.chain import Chain
from deepprofiler.profiling.embed import tsne
from deepprofiler.profiling.figures import save
from deepprofiler.profiling.findings import Comparison, Estimate, LeftOut, Method, Metric
from deepprofiler.profiling.neighbours import nearest_profiles
from deepprofiler.profiling.profiles import PREFIX, Profiles
from deepprofiler.profiling.report import Neighbours, Picture, Points, Report, Section, write
from deepprofiler.project import Project
from deepprofiler.stages.outcome import read_failures
from deepprofiler.stages.scores import Scores, negative_rows, treatments_of
from deepprofiler.stages.wells import Gathered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MONTAGE_ROWS, _MONTAGE_COLUMNS = 16, 10
_PLATES_SHOWN = 12
_UNITS = {
    "NSC": ("treatments", "have their nearest neighbour of another compound in their mechanism"),
    "NSCB": (
        "treatments",
        "have their nearest neighbour of another compound and batch in their mechanism",
    ),
    "gene accuracy": ("wells", "have their nearest well of another variant in their gene"),
    "replicate accuracy": ("wells", "have a nearest well of the same treatment"),
}


def write_report(
    project: Project, gathered: Gathered, wells: Profiles, chain: Chain, methods: list[Scores]
) -> None:
    """Write ``report/index.html``, its figures as PNG and SVG, and their data as CSV.

    Parameters
    ----------
    project : Project
    gathered : Gathered
        Counts, sampled cells and their origin.
    wells : Profiles
        Normalized well profiles.
    chain : Chain
        The fitted normalization.
    methods : list of Scores
        The learned profile first, then its baselines.
    """
    page = _Page(project, gathered, wells, chain, methods)
    write(page.report(), project.report_path)


class _Page:
    """Makes the parts of the page."""

    def __init__(
        self,
        project: Project,
        gathered: Gathered,
        wells: Profiles,
        chain: Chain,
        methods: list[Scores],
    ):
        self.project = project
        self.index: Index = project.index
        self.gathered = gathered
        self.wells = wells.subset(~wells.values(FLAG).astype(bool))
        self.chain = chain
        self.methods = methods
        self.seed = project.config.dataset.seed
        paths = [project.store_path(plate) for plate in self.index.plates]
        self.store = CellStore(paths) if all(path.exists() for path in paths) else None

    def report(self) -> Report:
        """Put all parts together."""
        counts = self.gathered.counts
        project, index = self.project, self.index
        views, embedding = self._views()
        sections = (
            Section(
                "The screen",
                (
                    f"{len(index.sites)} sites in {len(counts)} wells on "
                    f"{len(index.plates)} plates.",
                ),
                tuple(self._screen()),
            ),
            Section("Cells by treatment", self._about_cells(), tuple(self._cells())),
            Section("Training", (), tuple(self._training())),
            Section("Where the profiles lie", tuple(self.chain.notes_), tuple(embedding)),
            Section("Matching", self._notes(), tuple(self._confusions())),
        )
        origin = self.gathered.origin
        return Report(
            title=project.root.resolve().name,
            subtitle=f"Experiment {project.experiment}",
            facts={
                "plates": len(index.plates),
                "wells": len(counts),
                "cells": int(counts[COUNT].sum()),
                "features": len(origin.names),
            },
            comparison=self._comparison(),
            left_out=tuple(self._left_out()),
            notes=(),
            views=tuple(views),
            neighbours=self._neighbours(),
            sections=tuple(section for section in sections if section.pictures or section.text),
            failures=self._failures(),
            provenance={
                "date": date.today().isoformat(),
                "seed": str(self.seed),
                "model": project.config.train.model.name,
                "weights": origin.checkpoint,
                "digest of the weights": origin.digest,
                "layers": ", ".join(origin.layers),
                "channels": ", ".join(origin.channels),
                "crop rescale rule": origin.rescale,
                **origin.versions,
            },
            config=project.config.to_yaml(),
        )

    def _comparison(self) -> Comparison:
        first = self.methods[0]
        metrics = [
            Metric(name, *_UNITS[name], chance=result.chance)
            for name, result in first.results.items()
        ]
        methods = [
            Method(
                method.name,
                method.about,
                {name: _estimate(result) for name, result in method.results.items()},
            )
            for method in self.methods
        ]
        return Comparison(metrics, methods)

    def _left_out(self) -> Iterator[LeftOut]:
        counts = self.gathered.counts
        small = self.project.config.analyze.min_cells
        empty = int((counts[COUNT] == 0).sum())
        few = int(counts[FLAG].sum()) - empty
        yield LeftOut("wells", empty, len(counts), "hold no cells")
        yield LeftOut("wells", few, len(counts), f"hold fewer than {small} cells")
        names = self.gathered.origin.names
        yield LeftOut("features", len(self.chain.left_out_), len(names), "do not vary")
        yield LeftOut("cells", self.gathered.not_finite, None, "have features that are not finite")
        failures = self._failures()
        if failures is not None:
            cells = failures["cell"] != ""
            sites = int((~cells).sum())
            yield LeftOut("sites", sites, len(self.index.sites), "could not be used")
            yield LeftOut("cells", int(cells.sum()), None, "lie off their image")
        for name, result in self.methods[0].results.items():
            missing = result.total - result.n
            unit = _UNITS[name][0]
            yield LeftOut(unit, missing, result.total, f"cannot be matched for {name}")

    def _failures(self) -> pd.DataFrame | None:
        rows = [
            row
            for stage in ("prepare", "locate", "export-sc", "profile")
            for row in read_failures(self.project.failed_path(stage), stage)
        ]
        return pd.DataFrame([vars(row) for row in rows]) if rows else None

    def _notes(self) -> tuple[str, ...]:
        first = self.methods[0]
        said = [f"{result}. {'; '.join(result.notes)}" for result in first.results.values()]
        return tuple(said + [f"{name}: {why}" for name, why in first.undefined.items()])

    def _screen(self) -> Iterator[Picture]:
        counts = self.gathered.counts
        shown = counts[counts[PLATE].isin(self.index.plates[:_PLATES_SHOWN])]
        figure = plates.plate_map(
            shown[PLATE].tolist(),
            shown[WELL].tolist(),
            shown[COUNT].to_numpy(),
            quantity="cells",
            flagged=shown[FLAG].to_numpy(bool),
            flag=f"fewer than {self.project.config.analyze.min_cells} cells",
        )
        more = len(self.index.plates) - _PLATES_SHOWN
        rest = f"; {more} more plates are in the data" if more > 0 else ""
        yield self._picture(
            "Cells a well", f"Number of cells{rest}.", figure, "cell-counts", counts
        )
        paths = {
            plate: self.project.illumination_path(plate)
            for plate in self.index.plates[: _PLATES_SHOWN // 2]
        }
        found = {name: illumination.load(path) for name, path in paths.items() if path.exists()}
        if found:
            functions = {name: value.function for name, value in found.items()}
            data = pd.DataFrame(
                {
                    "plate": name,
                    "channel": channel,
                    "largest": float(value.function[:, :, position].max()),
                    "lower_percentile": value.percentiles[position, 0],
                    "upper_percentile": value.percentiles[position, 1],
                }
                for name, value in found.items()
                for position, channel in enumerate(value.channels)
            )
            figure = pictures.illumination(functions, self.index.channels)
            text = "How much brighter than its dimmest part each place of the image is lit."
            yield self._picture("Illumination", text, figure, "illumination", data)

    def _about_cells(self) -> tuple[str, ...]:
        if self.store is None:
            return ("No crops were exported, so none are shown; `export-sc` makes them.",)
        return ()

    def _cells(self) -> Iterator[Picture]:
        if self.store is None or not self.index.has("treatment"):
            return
        sample = self.gathered.sample
        names = sample.values(self.index.roles["treatment"]).astype(str)
        chosen: list[int] = []
        treatments = list(dict.fromkeys(sorted(names)))
        for name in treatments[:_MONTAGE_ROWS]:
            chosen += np.flatnonzero(names == name)[:_MONTAGE_COLUMNS].tolist()
        part = sample.subset(np.array(chosen))
        crops, ranges, there = self._crops(part)
        shown = names[np.array(chosen)][there].tolist()
        if not shown:
            return
        figure = pictures.montage(
            crops, shown, ranges=ranges, channels=self.index.channels, columns=_MONTAGE_COLUMNS
        )
        text = f"Cells drawn at random, {min(len(treatments), _MONTAGE_ROWS)} of "
        text += f"{len(treatments)} treatments."
        data = part.metadata[there].reset_index(drop=True)
        yield self._picture("Examples", text, figure, "montage", data)

    def _crops(self, cells: Profiles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Crops (n, M, M, C) float32 in image intensities, their ranges, and which were found."""
        assert self.store is not None
        keys = ["plate", "well", "site", "cell"]
        known = pd.MultiIndex.from_frame(self.store.table[keys])
        wanted = pd.MultiIndex.from_frame(cells.metadata[[PLATE, WELL, SITE, CELL]])
        rows = known.get_indexer(wanted)
        there = rows >= 0
        pixels, low, high = self.store.gather(rows[there])
        low, high = low[:, None, None], high[:, None, None]
        crops = pixels.astype(np.float32) * ((high - low) / 255) + low
        by_plate = self._ranges(crops, cells.values(PLATE)[there])
        return crops, by_plate, there

    def _ranges(self, crops: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Intensities shown as black and as full colour, (n, C, 2), the same for a whole plate."""
        ranges = np.empty((len(crops), crops.shape[-1], 2), np.float32)
        for plate in set(names):
            rows = names == plate
            ranges[rows] = np.percentile(crops[rows], [1, 99.7], axis=(0, 1, 2)).T
        return ranges

    def _training(self) -> Iterator[Picture]:
        path = self.project.history_path
        if not path.exists():
            return
        history = pd.read_csv(path)
        kept = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "val_macro_accuracy"]
        drawn = history[[name for name in kept if name in history]]
        figure = plot.training_curves(drawn)
        text = "The auxiliary task: telling treatments apart, cell by cell."
        yield self._picture("Training", text, figure, "training", history)

    def _views(self) -> tuple[list[Points], list[Picture]]:
        """Interactive views and printed pictures of wells, treatments and cells."""
        groups: list[tuple[str, Profiles]] = [("wells", self.wells)]
        if self.index.has("treatment"):
            weight = self.project.config.analyze.weight
            groups.append(("treatments", treatments_of(self.wells, self.index, weight)))
        groups.append(("cells", self.chain.transform(self.gathered.sample)))
        colour = self.index.roles.get("mechanism") or self.index.roles.get("treatment") or PLATE
        views, drawn = [], []
        total = int(self.gathered.counts[COUNT].sum())
        for name, profiles in groups:
            if len(profiles) < 2:
                continue
            found = tsne(profiles.features, seed=self.seed)
            about = f"{found.method} of {len(profiles)} {name}"
            if name == "cells":
                about += f" of {total}, drawn evenly from all wells"
            if found.perplexity:
                about += f"; perplexity {found.perplexity:.3g}, seed {self.seed}"
            columns = profiles.metadata.rename(columns=lambda text: text.removeprefix(PREFIX))
            views.append(
                Points(name, found.points, about, columns, self._thumbnails(name, profiles))
            )
            values = profiles.values(colour) if colour in profiles.metadata else None
            if values is not None:
                what = colour.removeprefix(PREFIX).lower()
                figure = plot.embedding(
                    found.points, list(values), quantity=what, method=found.method
                )
                data = profiles.metadata.assign(x=found.points[:, 0], y=found.points[:, 1])
                drawn.append(
                    self._picture(f"Map of {name}", about + ".", figure, f"map-{name}", data)
                )
        return views, drawn

    def _thumbnails(self, name: str, profiles: Profiles) -> np.ndarray | None:
        if name != "cells" or self.store is None:
            return None
        crops, ranges, there = self._crops(profiles)
        if not there.any():
            return None
        size = self.project.config.crops.size
        first = (crops.shape[1] - size) // 2
        crops = crops[:, first : first + size, first : first + size]
        shown = np.zeros((len(profiles), size, size, 3), np.uint8)
        shown[there] = pictures.composite(crops, ranges)
        return shown

    def _confusions(self) -> Iterator[Picture]:
        for name, result in self.methods[0].results.items():
            table = result.confusion
            labels = sorted({*map(str, table.index), *map(str, table.columns)})
            if len(labels) > 60:
                continue
            square = table.rename(index=str, columns=str).reindex(
                index=labels, columns=labels, fill_value=0.0
            )
            figure = plot.confusion_matrix(
                square.to_numpy(), labels, truth="truth", prediction="nearest neighbour"
            )
            text = f"{name}: what the nearest neighbours of each row belong to."
            file = "confusion-" + name.lower().replace(" ", "-")
            yield self._picture(f"Confusions, {name}", text, figure, file, square.reset_index())

    def _neighbours(self) -> Neighbours | None:
        index = self.index
        if not index.has("treatment"):
            return None
        weight = self.project.config.analyze.weight
        treated = self.wells.subset(~negative_rows(index, self.wells))
        group = index.roles.get("mechanism") or index.roles.get("gene")
        profiles = treatments_of(treated, index, weight)
        if len(profiles) < 2:
            return None
        name = index.roles["treatment"]
        if group is not None and group not in profiles.metadata:
            group = None
        rows = nearest_profiles(profiles, name=name, controls=None, shown=[group] if group else [])
        table = pd.DataFrame(
            {
                "query": rows[name],
                "query_group": rows[group] if group else "",
                "neighbour": rows[f"neighbour_{name}"],
                "neighbour_group": rows[f"neighbour_{group}"] if group else "",
                "similarity": rows["similarity"],
            }
        )
        what = group.removeprefix(PREFIX).lower() if group else "group"
        return Neighbours(table, what, "cosine similarity")

    def _picture(
        self, title: str, caption: str, figure: Figure, name: str, data: pd.DataFrame
    ) -> Picture:
        saved = save(figure, self.project.report_folder, name, data)
        return Picture(title, caption, saved.png, saved.data)


def _estimate(result: Accuracy) -> Estimate:
    interval = result.exact
    right = result.value * result.n
    return Estimate(result.value, result.n, interval.low, interval.high, right)
