"""Write the images, index and truth of a simulated screen.

Apart from the plan and the drawing of cells, which touch no files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray

from deepprofiler.columns import PREFIX
from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.parallel import ordered_map
from deepprofiler.simulate.design import ScreenDesign
from deepprofiler.simulate.microscope import draw_site
from deepprofiler.simulate.plan import (
    Batch,
    Plan,
    Site,
    Treatment,
    plan,
)

_LOCATION = ("Nuclei_Location_Center_X", "Nuclei_Location_Center_Y")


@dataclass(frozen=True)
class ScreenPaths:
    """Where the files of a screen are written.

    Parameters
    ----------
    images : Path
        Folder of the images.
    index : Path
        Table with one row per site; its paths are relative to ``images``.
    truth : Path
        Folder of the settings and of the true values.
    locations : Path, optional
        Folder for the true locations of the cells, in the form that segmentation writes. Left
        out by default, so that cells have to be located.
    """

    images: Path
    index: Path
    truth: Path
    locations: Path | None = None

    @property
    def config(self) -> Path:
        """Copy of the configuration that was written with the screen."""
        return self.truth / "config.yaml"


@dataclass(frozen=True)
class Summary:
    """Numbers of the plates, wells, sites, treatments and cells that were written."""

    plates: int
    wells: int
    sites: int
    treatments: int
    cells: int


def simulate(paths: ScreenPaths, design: ScreenDesign, seed: int, workers: int = 1) -> Summary:
    """Write a screen with known mechanisms and known nuisance.

    Images are ``<images>/<plate>/<well>-<site>-<channel>.tif`` (16 bits, deflate). The index is
    written last. The truth is ``screen.yaml`` (settings and seed), ``truth.csv`` (fate, strength
    and parameters of each treatment), ``batches.csv`` (gain, background, blur), ``sites.csv``
    (cells, blur in pixels, gain) and ``locations`` (positions and areas of the cells).

    Parameters
    ----------
    paths : ScreenPaths
        Files of the same design and seed are written again.
    design : ScreenDesign
    seed : int
        The same design and seed give the same bytes, for any number of workers.
    workers : int
        Processes.

    Returns
    -------
    Summary

    Raises
    ------
    DataError
        There is an index or a record of another design or seed.
    """
    record = yaml.safe_dump(
        {"seed": seed, **_plain(asdict(design))}, sort_keys=False, allow_unicode=True
    )
    _claim(paths.index, paths.truth / "screen.yaml", record)
    planned = plan(design, seed)
    sites = [Site(well, str(n + 1)) for well in planned.wells for n in range(design.sites)]
    _write_table(paths.truth / "truth.csv", [_treatment_row(t) for t in planned.treatments])
    _write_table(paths.truth / "batches.csv", _batch_rows(planned, design.channels))
    write_site = partial(_write_site, paths, design, seed, planned.batches)
    rows = list(ordered_map(write_site, sites, workers=workers))
    _write_table(paths.truth / "sites.csv", rows)
    _write_table(paths.index, [_index_row(site, design, planned) for site in sites])
    return Summary(
        plates=design.batches * design.plates,
        wells=len(planned.wells),
        sites=len(sites),
        treatments=len(planned.treatments),
        cells=sum(row["Cells"] for row in rows),
    )


def _write_site(
    paths: ScreenPaths,
    design: ScreenDesign,
    seed: int,
    batches: tuple[Batch, ...],
    site: Site,
) -> dict[str, Any]:
    """Draw and write one field; return its row of ``sites.csv``."""
    well = site.well
    image, cells, blur = draw_site(design, seed, site, batches[well.batch])
    for number, channel in enumerate(design.channels):
        with replacing(paths.images / _image_name(site, channel)) as temporary:
            tifffile.imwrite(
                temporary,
                image[:, :, number],
                compression="zlib",
                compressionargs={"level": 1},
                photometric="minisblack",
                resolution=(1e4 / design.pixel_size, 1e4 / design.pixel_size),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    H, W = design.image_size
    seen = (cells.x >= -0.5) & (cells.x < W - 0.5) & (cells.y >= -0.5) & (cells.y < H - 0.5)
    nuclei = np.bincount(cells.owner, minlength=len(seen))
    columns = {
        _LOCATION[0]: cells.x.round(3),
        _LOCATION[1]: cells.y.round(3),
        "Nuclei_Area": cells.nucleus_area.round(2),
        "Nuclei_Number": nuclei,
        "Cells_Area": cells.cell_area.round(2),
        "Cells_Mitotic": cells.values["mitotic"].astype(int),
    }
    name = Path(well.plate) / f"{well.well}-{site.name}-Nuclei.csv"
    _write_columns(paths.truth / "locations" / name, columns, seen)
    if paths.locations is not None:
        centres = {key: columns[key] for key in _LOCATION}
        _write_columns(paths.locations / name, centres, seen)
    return {
        "Plate": well.plate,
        "Well": well.well,
        "Site": site.name,
        "Cells": int(seen.sum()),
        "Blur": round(blur, 4),
        "Gain": round(well.gain, 4),
    }


def _claim(index: Path, record: Path, text: str) -> None:
    """Record which screen is simulated; refuse to overwrite anything else."""
    recorded = record.read_text(encoding="utf-8") if record.exists() else None
    if recorded != text:
        if index.exists() or recorded is not None:
            raise DataError(
                f"{index.parent.parent} already holds another screen; "
                "remove it or choose another folder"
            )
        _write_text(record, text)


def _image_name(site: Site, channel: str) -> Path:
    """An image's path below the folder of images."""
    return Path(site.well.plate) / f"{site.well.well}-{site.name}-{channel}.tif"


def _index_row(site: Site, design: ScreenDesign, planned: Plan) -> dict[str, Any]:
    well, treatment = site.well, site.well.treatment
    control = treatment.fate == "control"
    metadata = {
        "Batch": planned.batches[well.batch].name,
        "Compound": treatment.compound,
        "Dose": "" if control else f"{treatment.dose:g}",
        "Mechanism": treatment.mechanism,
        "Treatment": treatment.name,
        "Control": "negative" if control else "",
        "Replicate": str(well.replicate + 1),
        "Split": int(well.replicate == design.plates - 1),
    }
    return {
        f"{PREFIX}Plate": well.plate,
        f"{PREFIX}Well": well.well,
        f"{PREFIX}Site": site.name,
        **{channel: _image_name(site, channel).as_posix() for channel in design.channels},
        **{f"{PREFIX}{name}": value for name, value in metadata.items()},
    }


def _treatment_row(treatment: Treatment) -> dict[str, Any]:
    row = asdict(treatment)
    phenotype = row.pop("phenotype")
    row["batches"] = " ".join(f"Week{batch + 1}" for batch in treatment.batches)
    return _rounded({**row, **phenotype})


def _batch_rows(planned: Plan, channels: Sequence[str]) -> list[dict[str, Any]]:
    return [
        _rounded(
            {
                "batch": batch.name,
                "channel": channel,
                "gain": gain,
                "background": background,
                "blur": batch.blur,
            }
        )
        for batch in planned.batches
        for channel, gain, background in zip(channels, batch.gain, batch.background, strict=True)
    ]


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: round(float(value), 6) if isinstance(value, float) else value
        for key, value in row.items()
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, so that YAML writes no tags."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _write_columns(
    path: Path, columns: Mapping[str, NDArray[Any]], keep: NDArray[np.bool_]
) -> None:
    """Write the kept rows of columns of equal length; only a header where no row is kept."""
    lines = zip(*(values[keep].tolist() for values in columns.values()), strict=True)
    _write_csv(path, tuple(columns), lines)


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    _write_csv(path, tuple(rows[0]), (tuple(row.values()) for row in rows))


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
