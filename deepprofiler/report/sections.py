"""From the inputs of a report to its page: every section, its figures and its tables.

Apart from the page, which knows how sections are rendered and not what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT, FLAG
from deepprofiler.errors import counted
from deepprofiler.evaluation.accuracy import Accuracy
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.scores import Scores
from deepprofiler.evaluation.screen import Screen, negative_rows
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.report import explore, pictures, plot
from deepprofiler.report.figures import FigureFolder
from deepprofiler.report.findings import Comparison, Estimate, LeftOutCount, Method, Metric
from deepprofiler.report.page import Page, Picture, Section, Table, write
from deepprofiler.report.report_inputs import ReportInputs
from deepprofiler.report.wording import note_text, share, undefined_text

# A confusion matrix of more labels cannot be read.
_LARGEST_CONFUSION = 60
# A confusion matrix of up to so many labels can be read in half the width of the page.
_HALF_WIDTH = 14
_CURVES = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "val_macro_accuracy")


def write_page(inputs: ReportInputs, folder: Path) -> None:
    """Write ``index.html``, and its figures as PNG and SVG with their data as CSV.

    Figures of an earlier report that are not drawn again are removed.

    Parameters
    ----------
    inputs : ReportInputs
    folder : Path

    Raises
    ------
    ConfigError
        The maps are to be made by UMAP, and umap-learn is not installed.
    """
    figures = FigureFolder(folder)
    write(make_page(inputs, figures), folder / "index.html")
    figures.remove_others()


def make_page(inputs: ReportInputs, figures: FigureFolder) -> Page:
    """Draw and save all figures, and make the page from them.

    Raises
    ------
    ConfigError
        As for :func:`write_page`.
    """
    wells = explore.plate_wells(inputs, figures)
    flagged = wells.flagged()
    results = (
        _measures_section(inputs, figures),
        _normalizations_section(inputs),
        _similarity_section(inputs),
        Section("Layers", (), tuple(_layer_pictures(inputs, figures))),
    )
    sections = (
        _screen_section(inputs, figures, flagged),
        _cells_section(inputs, figures),
        Section("Training", (), tuple(_training_pictures(inputs, figures))),
    )
    return Page(
        title=inputs.title,
        subtitle=f"Experiment {inputs.experiment}",
        facts={
            "plates": len(inputs.plates),
            "wells": len(inputs.counts),
            "cells": int(inputs.counts[COUNT].sum()),
            "features": inputs.features,
        },
        comparison=_comparison(inputs),
        left_out=tuple(_left_out(inputs)),
        warnings=_warnings(len(flagged), len(inputs.counts)),
        wells=wells,
        maps=tuple(explore.point_maps(inputs, figures)),
        similarities=explore.similarities(inputs, figures),
        neighbours=explore.nearest_neighbours(inputs),
        results=tuple(section for section in results if not section.empty),
        sections=tuple(section for section in sections if not section.empty),
        failures=inputs.failures,
        provenance=inputs.provenance,
        config=inputs.config,
    )


def _warnings(flagged: int, wells: int) -> tuple[str, ...]:
    if not flagged:
        return ()
    return (
        f"{flagged} of {wells} wells {'is' if flagged == 1 else 'are'} flagged for too few cells "
        "or unusual images; see “Plates” and “The screen”.",
    )


# The top of the page: accuracies of the learned profile and its baselines, and what was left out.


@dataclass(frozen=True)
class _Meaning:
    """What is counted by an accuracy, what the right ones do, and why others are not counted."""

    unit: str
    meaning: str
    left_out: str


_MEANINGS = {
    "nsc": _Meaning(
        "treatments",
        "have the same mechanism as their nearest neighbour among other compounds",
        "no mechanism, or no other compound has it",
    ),
    "nscb": _Meaning(
        "treatments",
        "have the same mechanism as their nearest neighbour among other compounds in other batches",
        "no mechanism, or no other compound in another batch has it",
    ),
    "gene-accuracy": _Meaning(
        "wells",
        "have the same gene as their nearest neighbour among other variants",
        "no gene, or no other variant of the gene",
    ),
    "replicate-accuracy": _Meaning(
        "wells", "have the same treatment as their nearest neighbour", "no replicate"
    ),
}


def _meaning(key: str, result: Accuracy) -> _Meaning:
    """Meaning of a main accuracy; of one of a project's own, only its unit is known."""
    unknown = _Meaning(result.unit, "are matched correctly", "no neighbour to compare with")
    return _MEANINGS.get(key, unknown)


def _comparison(inputs: ReportInputs) -> Comparison:
    """Accuracies of all methods."""
    metrics = []
    for key, result in inputs.methods[0].main.items():
        meaning = _meaning(key, result)
        metrics.append(Metric(key, result.name, meaning.unit, meaning.meaning, result.chance))
    methods = [
        Method(
            method.name,
            method.description,
            {key: _estimate(result) for key, result in method.main.items()},
        )
        for method in inputs.methods
    ]
    return Comparison(metrics, methods)


def _estimate(result: Accuracy) -> Estimate:
    """Value with the wider of its intervals, since doses of one compound are not independent."""
    exact, by_compound = result.exact, result.by_compound
    wider = max(exact, by_compound, key=lambda interval: interval.high - interval.low)
    return Estimate(result.value, result.n, wider.low, wider.high, result.value * result.n)


def _left_out(inputs: ReportInputs) -> Iterator[LeftOutCount]:
    counts = inputs.counts
    wells = len(counts)
    without_cells = int((counts[COUNT] == 0).sum())
    too_few = int(counts[FLAG].sum()) - without_cells
    yield LeftOutCount("wells", without_cells, wells, "no cells")
    yield LeftOutCount("wells", too_few, wells, f"fewer than {inputs.min_cells} cells")
    undefined = len(inputs.chain.left_out_)
    yield LeftOutCount("features", undefined, inputs.features, "undefined in the normalization")
    yield LeftOutCount("cells", inputs.not_finite_cells, None, "features that are not finite")
    yield LeftOutCount("sites", inputs.failed_sites, inputs.sites, "could not be profiled")
    if inputs.failures is not None:
        outside = int((inputs.failures["cell"] != "").sum())
        yield LeftOutCount("cells", outside, None, "location outside the image")
    for key, result in inputs.methods[0].main.items():
        meaning = _meaning(key, result)
        why = f"{result.name}: {meaning.left_out}"
        yield LeftOutCount(meaning.unit, result.total - result.n, result.total, why)


# All measures, as tables.


def _measures_section(inputs: ReportInputs, figures: FigureFolder) -> Section:
    """Confusion matrices, all measures of all methods, and notes on those of the profile."""
    learned = inputs.methods[0]
    methods = {method.name: method for method in inputs.methods}
    table = measures_table("All measures, with baselines", methods, folded=True)
    notes = [
        f"{measure.name}: {note_text(note)}"
        for measure in learned.main.values()
        for note in measure.notes
    ]
    notes += [
        f"{undefined.title}: {undefined_text(undefined)}"
        for undefined in learned.undefined.values()
    ]
    return Section(
        "Measures",
        (),
        tuple(_confusion_pictures(learned, figures)),
        (table,) if len(table.rows) else (),
        tuple(notes),
    )


def _normalizations_section(inputs: ReportInputs) -> Section:
    """All measures of the same features under other normalizations."""
    learned = inputs.methods[0]
    headings = {
        f"{name} (used)" if scores is learned else name: scores
        for name, scores in inputs.normalizations.items()
    }
    table = measures_table("All measures, by normalization", headings)
    notes = tuple(inputs.normalization_notes)
    if not len(table.rows) or len(headings) < 2:
        return Section("Normalization", notes=notes)
    text = (
        "The same features under other normalizations. Choose a normalization before you look at "
        "mechanisms: the scores of one that is chosen for its scores are too optimistic.",
    )
    return Section("Normalization", text, (), (table,), notes)


_MEASURES_NOTE = (
    "In brackets: 95 % interval, from the bootstrap over compounds if there is one, else exact. "
    "Bold: best value of the row. ↓: lower is better. –: not computed."
)


def measures_table(title: str, methods: Mapping[str, Scores], *, folded: bool = False) -> Table:
    """Table with a row per measure and a column per method, the best value of a row in bold.

    Parameters
    ----------
    title : str
    methods : mapping
        From headings to scores.
    folded : bool
        Whether it is hidden until the reader opens it.
    """
    columns = [_by_evaluation(scores) for scores in methods.values()]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = []
    bold = np.zeros((len(keys), len(methods) + 1), bool)
    for row, key in enumerate(keys):
        measures = [column.get(key) for column in columns]
        first = next(measure for measure in measures if measure is not None)
        lower = first.lower_is_better
        rows.append([f"{first.name} ↓" if lower else first.name, *map(_measure_cell, measures)])
        bold[row, 1:] = _best(measures, lower)
    table = pd.DataFrame(rows, columns=["measure", *methods])
    return Table(title, table, _MEASURES_NOTE, bold, folded)


def _by_evaluation(scores: Scores) -> dict[tuple[str, int], Measure]:
    """Measures by evaluation and place in it."""
    return {
        (key, place): measure
        for key in (*scores.main, *scores.others)
        for place, measure in enumerate(scores.of(key))
    }


def _best(measures: list[Measure | None], lower: bool) -> np.ndarray:
    """Which of the measures have the best value, if at least two have a value; (n,) bool."""
    values = np.array([np.nan if measure is None else measure.value for measure in measures], float)
    defined = values[~np.isnan(values)]
    if len(defined) < 2:
        return np.zeros(len(values), bool)
    return np.asarray(values == (defined.min() if lower else defined.max()))


def _measure_cell(measure: Measure | None) -> str:
    """Value with its interval."""
    if measure is None or np.isnan(measure.value):
        return "–"
    interval = measure.by_compound or measure.exact
    if interval is None or np.isnan([interval.low, interval.high]).any():
        return _value_text(measure.value)
    if interval.low == interval.high == measure.value:
        return f"{_value_text(measure.value)} (no spread)"
    low, high = _value_text(interval.low), _value_text(interval.high)
    return f"{_value_text(measure.value)} ({low}–{high})"


def _value_text(value: float) -> str:
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    return share(value) if abs(value) < 100 else f"{value:.0f}"


def _confusion_pictures(scores: Scores, figures: FigureFolder) -> Iterator[Picture]:
    """Confusion matrix of each accuracy that has not too many labels."""
    for key, result in scores.main.items():
        confusion = result.confusion.rename(index=str, columns=str)
        labels = sorted({*confusion.index, *confusion.columns})
        if len(labels) > _LARGEST_CONFUSION:
            continue
        square = confusion.reindex(index=labels, columns=labels, fill_value=0.0)
        figure = plot.confusion_matrix(
            square.to_numpy(), labels, truth="truth", prediction="nearest neighbour"
        )
        saved = figures.save(figure, f"confusion-{_file_name(key)}", square.reset_index())
        small = len(labels) <= _HALF_WIDTH
        yield Picture(
            f"Confusion matrix, {result.name}",
            "Rows: true labels. Columns: labels of the nearest neighbours.",
            saved.svg,
            saved.data,
            half=small,
            folded=not small,
        )


def _file_name(key: str) -> str:
    """Name of an evaluation, which may have parameters, as a part of a file name."""
    return re.sub("[^a-z0-9]+", "-", key.lower()).strip("-")


# Further sections.


def _similarity_section(inputs: ReportInputs) -> Section:
    """Why there is no heat map, where there are too many treatments for one; else empty."""
    n = len(inputs.screen.treatments) if inputs.screen.has_treatments else 0
    if n <= explore.LARGEST_MATRIX:
        return Section("Similarity")
    text = (
        f"No heat map is drawn for more than {explore.LARGEST_MATRIX} treatments; there are "
        f"{n:,}. Their nearest neighbours are below, and in profiles/neighbours.csv."
    )
    return Section("Similarity", (text,))


def _layer_pictures(inputs: ReportInputs, figures: FigureFolder) -> Iterator[Picture]:
    """Accuracy of each layer, where several are profiled."""
    if inputs.layers is None or not len(inputs.layers):
        return
    saved = figures.save(plot.layers(inputs.layers), "layers", inputs.layers)
    text = "Accuracy by layer, from the first layer on the left; lines are 95 % intervals."
    yield Picture("Accuracy by layer", text, saved.svg, saved.data)


def _screen_section(inputs: ReportInputs, figures: FigureFolder, flagged: pd.DataFrame) -> Section:
    """Size of the screen, its illumination, and its flagged wells."""
    text = (
        f"{counted(inputs.sites, 'site', 'sites')} in "
        f"{counted(len(inputs.counts), 'well', 'wells')} on "
        f"{counted(len(inputs.plates), 'plate', 'plates')}."
    )
    tables = (Table("Flagged wells", flagged),) if len(flagged) else ()
    return Section("The screen", (text,), tuple(_illumination_pictures(inputs, figures)), tables)


def _illumination_pictures(inputs: ReportInputs, figures: FigureFolder) -> Iterator[Picture]:
    """Illumination functions of the first plates."""
    if not inputs.illumination:
        return
    data = pd.DataFrame(
        {
            "plate": plate,
            "channel": channel,
            "largest": float(illumination.function[:, :, position].max()),
            "lower_percentile": illumination.percentiles[position, 0],
            "upper_percentile": illumination.percentiles[position, 1],
        }
        for plate, illumination in inputs.illumination.items()
        for position, channel in enumerate(inputs.channels)
    )
    functions = {plate: value.function for plate, value in inputs.illumination.items()}
    figure = pictures.illumination(functions, inputs.channels)
    saved = figures.save(figure, "illumination", data)
    hidden = len(inputs.plates) - len(functions)
    text = "Illumination of each part of the image, relative to its dimmest part"
    text += f"; {counted(hidden, 'plate is', 'plates are')} not shown." if hidden else "."
    yield Picture("Illumination", text, saved.png, saved.data)


def _cells_section(inputs: ReportInputs, figures: FigureFolder) -> Section:
    """Example cells of each treatment, or why there are none."""
    text = () if inputs.cell_pictures is not None else (inputs.no_cell_pictures,)
    return Section("Cells by treatment", text, tuple(_montages(inputs, figures)))


def example_cells(sample: Profiles, screen: Screen) -> list[np.ndarray]:
    """Rows of the sampled cells that each montage shows.

    See :func:`~deepprofiler.report.pictures.example_rows`.
    """
    if not screen.has("treatment"):
        return []
    treatments = sample.values(screen.column("treatment")).astype(str)
    controls = negative_rows(sample, screen.roles, screen.control)
    return pictures.example_rows(treatments, controls)


def _montages(inputs: ReportInputs, figures: FigureFolder) -> Iterator[Picture]:
    """Example cells, some treatments a picture."""
    if inputs.cell_pictures is None or not inputs.screen.has("treatment"):
        return
    sample, examples = inputs.sample, inputs.cell_pictures.examples
    treatments = sample.values(inputs.screen.column("treatment")).astype(str)
    pages = example_cells(sample, inputs.screen)
    total, last = len(set(treatments)), 0
    for page, rows in enumerate(pages, 1):
        first, last = last + 1, last + len(set(treatments[rows]))
        stored = [row for row in rows.tolist() if row in examples]
        if not stored:
            continue
        figure = pictures.montage(
            np.stack([examples[row] for row in stored]),
            treatments[stored].tolist(),
            channels=inputs.channels,
            columns=pictures.EXAMPLES,
        )
        data = sample.metadata.iloc[stored].reset_index(drop=True)
        saved = figures.save(figure, f"montage-{page}", data)
        text = f"Randomly sampled cells of treatments {first} to {last} of {total}."
        yield Picture(f"Examples {page}", text, saved.png, saved.data)


def _training_pictures(inputs: ReportInputs, figures: FigureFolder) -> Iterator[Picture]:
    """Loss and accuracy by epoch."""
    history = inputs.history
    if history is None:
        return
    figure = plot.training_curves(history[[name for name in _CURVES if name in history]])
    saved = figures.save(figure, "training", history)
    text = "Loss and accuracy of the training task: to predict the label of single cells."
    yield Picture("Training", text, saved.svg, saved.data)
