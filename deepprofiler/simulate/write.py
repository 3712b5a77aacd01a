"""Write a simulated screen in a project's layout."""

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
from deepprofiler.project import Project
from deepprofiler.simulate.design import Screen
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
class Summary:
    """What was written: the index, how many of everything, and what else is worth telling."""

    index: Path
    plates: int
    wells: int
    sites: int
    treatments: int
    cells: int
    notes: tuple[str, ...] = ()


def simulate(
    folder: Path, screen: Screen, seed: int, workers: int = 1, *, locations: bool = False
) -> Summary:
    """Write a screen with known mechanisms and known nuisance.

    In ``folder``: ``inputs/images/<plate>/<well>-<site>-<channel>.tif`` (16 bits, deflate),
    ``inputs/metadata/index.csv`` (written last) and ``inputs/config/config.yaml``. What no stage
    reads is in ``inputs/truth``: ``screen.yaml`` (settings and seed), ``config.yaml`` (the config
    as it was written), ``truth.csv`` (fate, strength and parameters of each treatment),
    ``batches.csv`` (gain, background, blur), ``sites.csv`` (cells, blur in pixels,
    gain) and ``locations`` (place and areas of each cell).

    Parameters
    ----------
    folder : Path
        A project directory; what an equal screen and seed wrote there is written anew, but for a
        config that was edited since.
    screen : Screen
    seed : int
        Same screen and seed, same bytes, for any number of workers.
    workers : int
        Processes.
    locations : bool
        Also write the true places to ``inputs/locations``, so that ``locate`` has nothing to do.

    Returns
    -------
    Summary

    Raises
    ------
    DataError
        The folder holds an index that is not of this screen and seed.
    """
    project = Project(folder)
    truth = project.locations_folder.with_name("truth")
    record = yaml.safe_dump(
        {"seed": seed, **_plain(asdict(screen))}, sort_keys=False, allow_unicode=True
    )
    _claim(project.index_path, truth / "screen.yaml", record)
    planned = plan(screen, seed)
    sites = [Site(well, str(n + 1)) for well in planned.wells for n in range(screen.sites)]
    notes = _write_config(project.first_config_path, truth / "config.yaml", _config(screen))
    _write_table(truth / "truth.csv", [_treatment_row(t) for t in planned.treatments])
    _write_table(truth / "batches.csv", _batch_rows(planned, screen.channels))

    places = [truth / "locations"] + ([project.locations_folder] if locations else [])
    work = partial(_write_site, screen, seed, planned.batches, project.images_folder, tuple(places))
    rows = list(ordered_map(work, sites, workers=workers))
    _write_table(truth / "sites.csv", rows)
    _write_table(project.index_path, [_index_row(site, screen, planned) for site in sites])
    return Summary(
        index=project.index_path,
        plates=screen.batches * screen.plates,
        wells=len(planned.wells),
        sites=len(sites),
        treatments=len(planned.treatments),
        cells=sum(row["Cells"] for row in rows),
        notes=notes,
    )


def _write_site(
    screen: Screen,
    seed: int,
    batches: tuple[Batch, ...],
    images: Path,
    places: tuple[Path, ...],
    site: Site,
) -> dict[str, Any]:
    """Draw and write one field; what is true of it as a row of ``sites.csv``."""
    well = site.well
    image, cells, blur = draw_site(screen, seed, site, batches[well.batch])
    for number, channel in enumerate(screen.channels):
        with replacing(images / _image_name(site, channel)) as temporary:
            tifffile.imwrite(
                temporary,
                image[:, :, number],
                compression="zlib",
                compressionargs={"level": 1},
                photometric="minisblack",
                resolution=(1e4 / screen.pixel_size, 1e4 / screen.pixel_size),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    H, W = screen.image_size
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
    truth, *others = places
    name = Path(well.plate) / f"{well.well}-{site.name}-Nuclei.csv"
    _write_columns(truth / name, columns, seen)
    for place in others:
        _write_columns(place / name, {key: columns[key] for key in _LOCATION}, seen)
    return {
        "Plate": well.plate,
        "Well": well.well,
        "Site": site.name,
        "Cells": int(seen.sum()),
        "Blur": round(blur, 4),
        "Gain": round(well.gain, 4),
    }


def _claim(index: Path, record: Path, text: str) -> None:
    """Write down what is simulated here; refuse to write over anything else."""
    known = record.read_text(encoding="utf-8") if record.exists() else None
    if known != text:
        if index.exists() or known is not None:
            raise DataError(
                f"{index.parent.parent} already holds another screen; "
                "remove it or choose another folder"
            )
        _write_text(record, text)


def _write_config(path: Path, written: Path, text: str) -> tuple[str, ...]:
    """Write the config and a copy to know it by; leave one that someone wrote or edited."""
    if path.exists():
        known = {text} | ({written.read_text(encoding="utf-8")} if written.exists() else set())
        if path.read_text(encoding="utf-8") not in known:
            return (f"left {path} as it is, since it was not written by simulate or edited since",)
    _write_text(path, text)
    _write_text(written, text)
    return ()


def _config(screen: Screen) -> str:
    """A short config; every other key keeps its default."""
    sections = {
        "dataset": {"channels": list(screen.channels)},
        "crops": {"size": screen.crop_size},
        "train": {
            "epochs": screen.epochs,
            "batch_size": screen.batch_size,
            "optimizer": "adam",
            "learning_rate": screen.learning_rate,
            "schedule": "cosine",
        },
    }
    return yaml.safe_dump(sections, sort_keys=False)


def _image_name(site: Site, channel: str) -> Path:
    """An image's path below the folder of images."""
    return Path(site.well.plate) / f"{site.well.well}-{site.name}-{channel}.tif"


def _index_row(site: Site, screen: Screen, planned: Plan) -> dict[str, Any]:
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
        "Split": int(well.replicate == screen.plates - 1),
    }
    return {
        f"{PREFIX}Plate": well.plate,
        f"{PREFIX}Well": well.well,
        f"{PREFIX}Site": site.name,
        **{channel: _image_name(site, channel).as_posix() for channel in screen.channels},
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
    """Write the kept rows of equally long columns; a header alone where none is kept."""
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
