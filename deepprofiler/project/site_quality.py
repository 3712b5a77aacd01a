"""Intensity and focus of every site, as tables: measured by ``prepare``, shown by ``analyze``."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from deepprofiler.columns import PLATE, SITE, WELL
from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.imaging.quality import Quality
from deepprofiler.project import Project
from deepprofiler.project.index import Site


def quality_columns(channels: Sequence[str]) -> list[str]:
    """Names of the measures: intensity of each channel, then focus of each."""
    return [f"{measure}_{channel}" for measure in ("Intensity", "Focus") for channel in channels]


def write_quality(project: Project, plate: str, sites: Sequence[tuple[Site, Quality]]) -> None:
    """Write ``outputs/illumination/<plate>.csv``, one row a site.

    Parameters
    ----------
    project : Project
    plate : str
    sites : sequence of (Site, Quality)
    """
    rows = [
        [plate, site.well, site.site, *quality.intensity.tolist(), *quality.focus.tolist()]
        for site, quality in sites
    ]
    columns = [PLATE, WELL, SITE, *quality_columns(project.index.channels)]
    with replacing(project.quality_path(plate)) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False)


def well_quality(project: Project) -> pd.DataFrame | None:
    """Mean intensity and focus over the sites of each well.

    Returns
    -------
    DataFrame or None
        Plate, well, and :func:`quality_columns`; a measure is NaN where no site of a well has it.
        None where no plate was measured with the channels of the index.

    Raises
    ------
    DataError
        A table is damaged.
    """
    measures = quality_columns(project.index.channels)
    tables = []
    for path in map(project.quality_path, project.index.plates):
        if not path.exists():
            continue
        try:
            text = {PLATE: str, WELL: str, SITE: str}
            table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}); delete it and run `prepare`") from None
        if list(table) == [PLATE, WELL, SITE, *measures]:
            tables.append(table)
    if not tables:
        return None
    sites = pd.concat(tables, ignore_index=True)
    return sites.groupby([PLATE, WELL], sort=False)[measures].mean().reset_index()
