"""One self-contained HTML page that says what a screen showed.

The page is made from a :class:`Report` of plain values. Nothing is loaded from elsewhere: a
content security policy forbids it, and lets only the page's own script run. Every name is text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepprofiler.files import replacing
from deepprofiler.report.findings import Comparison, LeftOut, number, sentences
from deepprofiler.report.plate_maps import layout, row_name


@dataclass(frozen=True)
class Picture:
    """A saved figure.

    Attributes
    ----------
    title, caption : str
        The caption also says what is seen to who cannot see it.
    image : Path
        PNG or SVG, put into the page.
    data : Path, optional
        CSV of what is drawn, offered beside it.
    half : bool
        Whether two such pictures fit beside each other.
    folded : bool
        Whether it is shown only on request.
    """

    title: str
    caption: str
    image: Path
    data: Path | None = None
    half: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    title : str
    rows : DataFrame
    note : str
        What its columns mean.
    bold : ndarray, optional
        (rows, columns) bool: the values that stand out.
    folded : bool
        Whether it is shown only on request.
    """

    title: str
    rows: pd.DataFrame
    note: str = ""
    bold: np.ndarray | None = None
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, tables, pictures, and small print as a list."""

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Points:
    """One view of the interactive embedding.

    Attributes
    ----------
    name : str
        What a point is: ``wells``, ``treatments``, ``cells``.
    points : ndarray
        (n, 2), arbitrary units.
    about : str
        Method, perplexity and seed, and how many of how many are drawn.
    columns : DataFrame
        n rows. Every column can colour the points and is shown for a point; columns of numbers
        get a continuous scale.
    thumbnails : ndarray, optional
        (n, S, S, 3) uint8, shown with a point.
    """

    name: str
    points: np.ndarray
    about: str
    columns: pd.DataFrame
    thumbnails: np.ndarray | None = None


@dataclass(frozen=True)
class Wells:
    """Wells on their plates, for interactive plate maps.

    Attributes
    ----------
    plates, wells : sequence of str
        n names each.
    quantities : DataFrame
        n rows of numbers, NaN where nothing was measured; each column can be chosen.
    flags : sequence of str
        n reasons to look at a well, blank where there is none.
    about : str
        How the quantities were measured.
    """

    plates: Sequence[str]
    wells: Sequence[str]
    quantities: pd.DataFrame
    flags: Sequence[str]
    about: str


@dataclass(frozen=True)
class Similarities:
    """Similarities of treatments in the order of a clustering, for an interactive heat map.

    Attributes
    ----------
    names, groups : sequence of str
        n names, and the group of each; a blank one is unknown.
    matrix : ndarray
        (n, n), from -1 to 1.
    group, about : str
        What the groups are, blank where none are known, and how the matrix was made.
    """

    names: Sequence[str]
    groups: Sequence[str]
    matrix: np.ndarray
    group: str
    about: str


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each treatment among the other compounds.

    Attributes
    ----------
    rows : DataFrame
        Columns ``query, query_group, neighbour, neighbour_group, similarity``, the nearest of a
        query first. A blank group is unknown.
    group : str
        What the groups are: ``mechanism``, ``gene``; blank where none are known.
    similarity : str
        What the similarity is: ``cosine similarity``.
    """

    rows: pd.DataFrame
    group: str
    similarity: str


@dataclass(frozen=True)
class Report:
    """Everything that the page says.

    Attributes
    ----------
    title, subtitle : str
    facts : mapping
        Sizes of the screen for the first screen, such as ``{"cells": 17280}``.
    comparison : Comparison
        The learned profile beside its baselines.
    notes : tuple of str
        Further sentences for the first screen, such as warnings.
    left_out : tuple of LeftOut
    wells : Wells, optional
    views : tuple of Points
    similarities : Similarities, optional
    neighbours : Neighbours, optional
    results : tuple of Section
        Shown below the comparison.
    sections : tuple of Section
        Shown below everything that the reader can explore.
    failures : DataFrame, optional
        One row per site or well that failed, with its reason.
    provenance : mapping
        Names to values: seed, checkpoint, its digest, versions, date.
    config : str
        The resolved configuration as text.
    """

    title: str
    subtitle: str
    facts: Mapping[str, int | float | str]
    comparison: Comparison
    left_out: tuple[LeftOut, ...]
    provenance: Mapping[str, str]
    config: str = ""
    notes: tuple[str, ...] = ()
    wells: Wells | None = None
    views: tuple[Points, ...] = ()
    similarities: Similarities | None = None
    neighbours: Neighbours | None = None
    results: tuple[Section, ...] = ()
    sections: tuple[Section, ...] = ()
    failures: pd.DataFrame | None = None


THUMBNAIL = 40
INLINE_PNG = 400_000
INLINE_DATA = 200_000


def as_json(values: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def view_values(view: Points) -> dict[str, Any]:
    """Plain values of a view for the page's script."""
    count = len(view.columns)
    if view.points.shape != (count, 2):
        raise ValueError(f"{view.name}: points {view.points.shape} for {count} rows")
    span = float(np.ptp(view.points, axis=0).max()) if count else 1.0
    scaled = np.asarray(view.points, float) / (span or 1.0)
    values = {
        "name": view.name,
        "about": view.about,
        "x": scaled[:, 0].round(4).tolist(),
        "y": scaled[:, 1].round(4).tolist(),
        "columns": [_column(str(name), column) for name, column in view.columns.items()],
        "sheet": None,
    }
    if view.thumbnails is not None:
        if len(view.thumbnails) != count:
            raise ValueError(f"{view.name}: {len(view.thumbnails)} thumbnails for {count} rows")
        values["sheet"] = _sheet(view.thumbnails)
    return values


def wells_values(wells: Wells) -> dict[str, Any]:
    """Plain values of plate maps for the page's script: each well's place on its plate.

    Wells whose names are no places are laid out row by row, in their order.

    Raises
    ------
    ValueError
        The numbers of plates, wells, rows and flags differ.
    """
    count = len(wells.quantities)
    if {len(wells.plates), len(wells.wells), len(wells.flags)} != {count}:
        raise ValueError(f"plate maps: {len(wells.wells)} wells for {count} rows")
    table = pd.DataFrame({"plate": list(wells.plates), "well": list(wells.wells)})
    places = np.zeros((count, 2), int)
    plates = []
    for name, group in table.groupby("plate", sort=False):
        grid = layout(group["well"])
        across = int(np.ceil(np.sqrt(len(group) * 1.5)))
        rows, columns = (
            (-(-len(group) // across), across) if grid is None else (grid.rows, grid.columns)
        )
        for position, (row, well) in enumerate(zip(group.index, group["well"], strict=True)):
            place = divmod(position, across) if grid is None else grid.places[str(well)]
            places[int(row)] = place
        letters = [] if grid is None else [row_name(row) for row in range(rows)]
        members = group.index.tolist()
        plates.append(
            {
                "name": str(name),
                "rows": rows,
                "columns": columns,
                "letters": letters,
                "wells": members,
            }
        )
    return {
        "about": wells.about,
        "plates": plates,
        "names": [str(name) for name in wells.wells],
        "row": places[:, 0].tolist(),
        "column": places[:, 1].tolist(),
        "flags": [str(flag) for flag in wells.flags],
        "quantities": [_column(str(name), column) for name, column in wells.quantities.items()],
    }


def similarity_values(similarities: Similarities) -> dict[str, Any]:
    """Plain values of a heat map for the page's script, in hundredths.

    Raises
    ------
    ValueError
        The matrix does not fit the names and groups.
    """
    count = len(similarities.names)
    if similarities.matrix.shape != (count, count) or len(similarities.groups) != count:
        raise ValueError(f"similarities {similarities.matrix.shape} for {count} names")
    hundredths = np.rint(np.asarray(similarities.matrix) * 100).astype(int)
    return {
        "about": similarities.about,
        "group": similarities.group,
        "names": [str(name) for name in similarities.names],
        "groups": [str(name) for name in similarities.groups],
        "matrix": hundredths.ravel().tolist(),
    }


def _column(name: str, column: pd.Series) -> dict[str, Any]:
    """Numbers as they are (None where missing); text as codes into sorted levels."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        numbers = [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
        return {"name": name, "numbers": numbers}
    codes, levels = pd.factorize(column.astype(str), sort=True)
    return {"name": name, "codes": codes.tolist(), "levels": list(levels)}


def _sheet(thumbnails: np.ndarray) -> dict[str, Any]:
    """All thumbnails (n, S, S, 3) in one JPEG, row by row."""
    step = max(1, thumbnails.shape[1] // THUMBNAIL)
    small = np.asarray(thumbnails, np.uint8)[:, ::step, ::step]
    count, side = small.shape[:2]
    across = max(1, int(np.ceil(np.sqrt(count))))
    sheet = np.zeros((across * across, side, side, 3), np.uint8)
    sheet[:count] = small
    pixels = sheet.reshape(across, across, side, side, 3).swapaxes(1, 2)
    pixels = pixels.reshape(across * side, across * side, 3)
    return {"image": _jpeg(pixels), "side": side, "across": across}


def _jpeg(pixels: np.ndarray) -> str:
    """Data address of an image (H, W, 3) uint8."""
    from matplotlib.image import imsave

    buffer = BytesIO()
    imsave(buffer, pixels, format="jpg", pil_kwargs={"quality": 85})
    return _address("image/jpeg", buffer.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def image_address(path: Path) -> str:
    """Data address of a figure; a large PNG, which is a photograph, becomes a JPEG."""
    content = path.read_bytes()
    if path.suffix == ".svg":
        return _address("image/svg+xml", content)
    if len(content) <= INLINE_PNG:
        return _address("image/png", content)
    from matplotlib.image import imread

    return _jpeg((imread(path)[..., :3] * 255).round().astype(np.uint8))


def data_address(path: Path) -> str | None:
    """Data address of a CSV, None where it is too large for the page."""
    content = path.read_bytes()
    return _address("text/csv", content) if len(content) <= INLINE_DATA else None


def cell_text(value: Any) -> str:
    """A table's value as a reader writes it."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    return number(value) if isinstance(value, int | float | np.number) else str(value)


def neighbour_rows(neighbours: Neighbours | None) -> list[dict[str, Any]]:
    """One entry per query, with its neighbours in order."""
    if neighbours is None:
        return []
    found = []
    for query, rows in neighbours.rows.groupby("query", sort=False):
        group = str(rows["query_group"].iloc[0])
        others = [
            {
                "name": str(name),
                "group": str(other),
                "similarity": float(similarity),
                "same": None if "" in (group, other) else group == other,
            }
            for name, other, similarity in zip(
                rows["neighbour"], rows["neighbour_group"], rows["similarity"], strict=True
            )
        ]
        found.append({"name": str(query), "group": group, "others": others})
    return found


SHOWN_ROWS = 300
# In this order: each uses what stands in those before.
SCRIPTS = ("common", "map", "plates", "similarity", "search")


def render(report: Report) -> str:
    """Make the page.

    Raises
    ------
    ValueError
        A view's points, columns and thumbnails differ in number, or wells and their values do.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("deepprofiler.report", "templates")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    pages.filters |= {
        "number": number,
        "image": image_address,
        "download": data_address,
        "cell": cell_text,
    }
    script = "".join(loader.get_source(pages, f"{name}.js")[0] for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    similarities, wells = report.similarities, report.wells
    values = {
        "views": [view_values(view) for view in report.views],
        "similarities": None if similarities is None else similarity_values(similarities),
        "wells": None if wells is None else wells_values(wells),
    }
    return pages.get_template("report.html").render(
        report=report,
        said=sentences(report.comparison, report.left_out),
        neighbours=neighbour_rows(report.neighbours),
        values={name: Markup(as_json(value)) if value else None for name, value in values.items()},
        shown_rows=SHOWN_ROWS,
        style=Markup(loader.get_source(pages, "report.css")[0]),
        script=Markup(script),
        script_digest=digest,
    )


def write(report: Report, path: Path) -> None:
    """Write the page to ``path``, whole or not at all. Raises like :func:`render`."""
    page = render(report)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
