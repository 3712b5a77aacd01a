"""The original DeepProfiler's files of features, one for each site, written from well files.

Programs that read the original's outputs, such as CytoTable, read these. Nothing here reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepprofiler.columns import SITE
from deepprofiler.errors import DataError
from deepprofiler.files import file_name, replacing
from deepprofiler.project.well_file import WellFeatures


def write_npz(
    folder: Path, well: WellFeatures, metadata: Mapping[str, Mapping[str, Any]], *, model: str
) -> list[Path]:
    """Write ``<folder>/<plate>/<well>/<site>.npz`` for every site of a well that has cells.

    A file holds what the original writes: ``features (n, D) float32``, ``locations (n, 2) float64``
    as x and y in pixels, and ``metadata``, a dict with the site's row of the index and the name of
    the model as ``Metadata_Model``. To hold a dict NumPy pickles it: read such files with
    ``allow_pickle=True``, and only those that you trust.

    Parameters
    ----------
    folder : Path
        Where the original keeps them, ``outputs/<experiment>/features``; or anywhere else.
    well : WellFeatures
        From :func:`deepprofiler.project.well_file.read_well`.
    metadata : mapping
        Site to its row of the index, from column to value.
    model : str
        CytoTable calls the features ``<model>_1``, ``<model>_2`` ….

    Returns
    -------
    list of Path
        The files, in the order of the sites. As in the original a site without cells has none.

    Raises
    ------
    DataError
        A site of the well has no row of the index.
    """
    sites = well.cells[SITE].astype(str).to_numpy()
    centers = well.cells[["x", "y"]].to_numpy(dtype=np.float64)
    written = []
    for site in dict.fromkeys(sites):
        if site not in metadata:
            raise DataError(
                f"plate {well.provenance.plate} well {well.provenance.well}: site {site} has "
                "features and no row in the index"
            )
        rows = sites == site
        place = folder / file_name(well.provenance.plate) / file_name(well.provenance.well)
        path = place / f"{file_name(site)}.npz"
        values = {**metadata[site], "Metadata_Model": model}
        with replacing(path) as temporary, temporary.open("wb") as file:
            # Any other name would get the ending .npz.
            np.savez_compressed(
                file,
                features=well.features[rows],
                locations=centers[rows],
                metadata=np.array(values, dtype=object),
            )
        written.append(path)
    return written
