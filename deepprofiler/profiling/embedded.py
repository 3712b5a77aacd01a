"""Plain values in the page: JSON for its script, pictures and tables as data addresses."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepprofiler.profiling.findings import number
from deepprofiler.profiling.page import Neighbours, Points, Similarities, Wells
from deepprofiler.profiling.plates import layout, row_name

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
