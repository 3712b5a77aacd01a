"""The report page of an experiment: figures, their data, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pandas as pd

from deepprofiler.metadata import COUNT, FLAG, PLATE, Index
from deepprofiler.profiling import plot
from deepprofiler.profiling.accuracy import Accuracy
from deepprofiler.profiling.chain import Chain
from deepprofiler.profiling.embed import tsne
from deepprofiler.profiling.findings import Comparison, Estimate, LeftOut, Method, Metric
from deepprofiler.profiling.neighbours import nearest_profiles
from deepprofiler.profiling.profiles import PREFIX, Profiles
from deepprofiler.profiling.report import Neighbours, Picture, Points, Report, Section, write
from deepprofiler.project import Project
from deepprofiler.stages.drawings import Drawings
from deepprofiler.stages.outcome import read_failures
from deepprofiler.stages.scores import Scores, negative_rows, treatments_of
from deepprofiler.stages.wells import Gathered, with_enough_cells

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
        self.wells = with_enough_cells(wells)
        self.chain = chain
        self.methods = methods
        self.seed = project.config.dataset.seed
        self.drawings = Drawings(project, gathered)
        self.failures = self._failures()

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
                    f"{len(index.plates)} plate{'s' if len(index.plates) > 1 else ''}.",
                ),
                tuple(self.drawings.screen()),
            ),
            Section("Cells by treatment", self._about_cells(), tuple(self.drawings.cells())),
            Section("Training", (), tuple(self.drawings.training())),
            Section("Where the profiles lie", tuple(self.chain.notes_), tuple(embedding)),
            Section("Matching", self._notes(), tuple(self.drawings.confusions(self.methods[0]))),
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
            views=tuple(views),
            neighbours=self._neighbours(),
            sections=tuple(section for section in sections if section.pictures or section.text),
            failures=self.failures,
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
        yield LeftOut(
            "sites", self.gathered.failed_sites, len(self.index.sites), "could not be used"
        )
        if self.failures is not None:
            cells = int((self.failures["cell"] != "").sum())
            yield LeftOut("cells", cells, None, "lie off their image")
        for name, result in self.methods[0].results.items():
            missing = result.total - result.n
            unit = _UNITS[name][0]
            yield LeftOut(unit, missing, result.total, f"cannot be matched for {name}")

    def _failures(self) -> pd.DataFrame | None:
        rows = [
            row
            for stage in ("prepare", "locate", "export-sc", "profile")
            for path in self.project.failed_paths(stage)
            for row in read_failures(path, stage)
        ]
        if not rows:
            return None
        table = pd.DataFrame([vars(row) for row in rows])
        # What one stage cannot read, the next cannot either: the last to say so is listed.
        return table.drop_duplicates(["plate", "well", "site", "cell"], keep="last")

    def _about_cells(self) -> tuple[str, ...]:
        return () if self.drawings.store is not None else (self.drawings.no_store,)

    def _notes(self) -> tuple[str, ...]:
        first = self.methods[0]
        said = [f"{result}. {'; '.join(result.notes)}" for result in first.results.values()]
        return tuple(said + [f"{name}: {why}" for name, why in first.undefined.items()])

    def _views(self) -> tuple[list[Points], list[Picture]]:
        """Interactive views and printed pictures of wells, treatments and cells."""
        groups: list[tuple[str, Profiles]] = [("wells", self.wells)]
        if self.index.has("treatment"):
            weight = self.project.config.analyze.weight
            groups.append(("treatments", treatments_of(self.wells, self.index, weight)))
        sample = self.gathered.sample
        sample = sample.subset(self.chain.covers(sample))
        groups.append(("cells", self.chain.transform(sample)))
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
            about += "."
            columns = profiles.metadata.rename(columns=lambda text: text.removeprefix(PREFIX))
            first = colour.removeprefix(PREFIX)
            if first in columns:
                # The page colours by the first column until the reader chooses another.
                columns.insert(0, first, columns.pop(first))
            thumbnails = self.drawings.thumbnails(profiles) if name == "cells" else None
            views.append(Points(name, found.points, about, columns, thumbnails))
            values = profiles.values(colour) if colour in profiles.metadata else None
            if values is not None:
                what = colour.removeprefix(PREFIX).lower()
                figure = plot.embedding(
                    found.points, list(values), quantity=what, method=found.method
                )
                data = profiles.metadata.assign(x=found.points[:, 0], y=found.points[:, 1])
                drawn.append(
                    self.drawings.picture(f"Map of {name}", about, figure, f"map-{name}", data)
                )
        return views, drawn

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


def _estimate(result: Accuracy) -> Estimate:
    interval = result.exact
    right = result.value * result.n
    return Estimate(result.value, result.n, interval.low, interval.high, right)
