"""The report page of an experiment: figures, their data, and what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import pandas as pd

from deepprofiler.columns import COUNT, FLAG
from deepprofiler.commands.analyze.aggregate import Gathered
from deepprofiler.commands.analyze.normalize import Normalized
from deepprofiler.evaluation.accuracy import Accuracy
from deepprofiler.evaluation.scores import Scores
from deepprofiler.evaluation.screen import Screen
from deepprofiler.imaging.object_features import CP_MEASURE
from deepprofiler.project import Project
from deepprofiler.project.outcome import read_failures
from deepprofiler.report import explore
from deepprofiler.report.drawings import Drawings
from deepprofiler.report.findings import (
    Comparison,
    Estimate,
    LeftOut,
    Method,
    Metric,
)
from deepprofiler.report.overview import overview
from deepprofiler.report.page import Report, Section, Table, write
from deepprofiler.report.report_tables import lower_is_better, measures

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
    project: Project,
    gathered: Gathered,
    done: Normalized,
    methods: Sequence[Scores],
    corrected: Mapping[str, Scores],
) -> None:
    """Write ``report/index.html``, its figures as PNG and SVG, and their data as CSV.

    Parameters
    ----------
    project : Project
    gathered : Gathered
        Counts, sampled cells and their origin.
    done : Normalized
        Well profiles and their normalization.
    methods : sequence of Scores
        The learned profile first, then its baselines.
    corrected : mapping
        Names of normalizations to the scores of the same features under each.
    """
    page = _Page(project, gathered, done, methods, corrected)
    write(page.report(), project.report_path)
    page.drawings.remove_others()


class _Page:
    """Makes the parts of the page."""

    def __init__(
        self,
        project: Project,
        gathered: Gathered,
        done: Normalized,
        methods: Sequence[Scores],
        corrected: Mapping[str, Scores],
    ):
        self.project = project
        self.index = project.index
        self.gathered = gathered
        self.chain = done.chain
        self.screen = Screen.of(project, done.wells)
        self.lower = lower_is_better(self.screen)
        self.methods = methods
        self.corrected = corrected
        self.drawings = Drawings(project, gathered)
        self.failures = self._failures()

    def report(self) -> Report:
        """Put all parts together."""
        counts = self.gathered.counts
        project, index = self.project, self.index
        seen = overview(self.drawings)
        flagged = Table("Flagged wells", seen.flagged)
        results = (
            self._matching(),
            self._corrections(),
            Section("Similarity", explore.unmapped(self.screen)),
            Section("Layers", (), tuple(self.drawings.layers())),
        )
        sections = (
            Section(
                "The screen",
                (
                    f"{len(index.sites)} sites in {len(counts)} wells on "
                    f"{len(index.plates)} plate{'s' if len(index.plates) > 1 else ''}.",
                ),
                tuple(self.drawings.illumination()),
                (flagged,) if len(seen.flagged) else (),
            ),
            Section("Cells by treatment", self._about_cells(), tuple(self.drawings.cells())),
            Section("Training", (), tuple(self.drawings.training())),
        )
        return Report(
            title=project.root.resolve().name,
            subtitle=f"Experiment {project.experiment}",
            facts={
                "plates": len(index.plates),
                "wells": len(counts),
                "cells": int(counts[COUNT].sum()),
                "features": len(self.gathered.origin.names),
            },
            comparison=self._comparison(),
            left_out=tuple(self._left_out()),
            notes=_warnings(len(seen.flagged), len(counts)),
            wells=seen.wells,
            views=tuple(explore.views(self.drawings, self.screen, self.chain)),
            similarities=explore.similarities(self.drawings, self.screen),
            neighbours=explore.nearest(self.screen),
            results=tuple(section for section in results if _says_something(section)),
            sections=tuple(section for section in sections if _says_something(section)),
            failures=self.failures,
            provenance=self._provenance(),
            config=project.config.to_yaml(),
        )

    def _provenance(self) -> dict[str, str]:
        """Say what made the numbers, as far as it is known."""
        project, origin = self.project, self.gathered.origin
        made = {
            "date": date.today().isoformat(),
            "seed": str(project.config.dataset.seed),
            "model": project.config.train.model.name,
            "weights": origin.checkpoint,
            "digest of the weights": origin.digest,
            "layer": ", ".join(origin.layers),
            "channels": ", ".join(origin.channels),
            "size of crops": f"{origin.crop_size} × {origin.crop_size} pixels",
            "crop rescale rule": origin.rescale,
            "normalization": " + ".join(step.name for step in self.chain.steps) or "none",
            "index": project.index_path.name,
            "config": project.config_path.name,
        }
        if self.failures is not None:
            reasons = Counter(self.failures["stage"])
            made["failures"] = "; ".join(f"{n} in {stage}" for stage, n in reasons.items())
        return made | origin.versions

    def _matching(self) -> Section:
        """Confusions and all measures of the profile and its baselines."""
        methods = {method.name: method for method in self.methods}
        table = measures("Every measure, against the baselines", methods, self.lower, folded=True)
        pictures = tuple(self.drawings.confusions(self.methods[0]))
        tables = (table,) if len(table.rows) else ()
        return Section("Matching", (), pictures, tables, self._notes())

    def _corrections(self) -> Section:
        """The same features under other normalizations."""
        headings = {
            f"{name} (used)" if scores is self.methods[0] else name: scores
            for name, scores in self.corrected.items()
        }
        table = measures("Every measure, by correction", headings, self.lower)
        notes = tuple(self.chain.notes_)
        if not len(table.rows) or len(headings) < 2:
            return Section("Corrections", notes=notes)
        text = (
            "The same features, normalized in other ways. Choosing the best of these after looking "
            "at the mechanisms flatters it: a choice belongs before.",
        )
        return Section("Corrections", text, (), (table,), notes)

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
        yield LeftOut("features", len(self.chain.left_out_), len(names), "are undefined in a fit")
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
        measured = self.project.config.analyze.classical == CP_MEASURE
        rows = [
            row
            for stage in ("prepare", "locate", "export-sc", "profile", *["analyze"] * measured)
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
        said = [
            f"{result.name}: {note}" for result in first.results.values() for note in result.notes
        ]
        return tuple(said + [f"{name}: {why}" for name, why in first.undefined.items()])


def _warnings(flagged: int, wells: int) -> tuple[str, ...]:
    if not flagged:
        return ()
    return (f"{flagged} of {wells} wells are worth a look: “Plates” and “The screen” say why.",)


def _says_something(section: Section) -> bool:
    return bool(section.text or section.pictures or section.tables or section.notes)


def _estimate(result: Accuracy) -> Estimate:
    """Give a value with the wider of its intervals: doses of a compound stand or fall together."""
    widths = [interval.high - interval.low for interval in (result.exact, result.by_compound)]
    wider = result.by_compound if widths[1] > widths[0] else result.exact
    return Estimate(result.value, result.n, wider.low, wider.high, result.value * result.n)
