"""Intensity and focus of sites, measured by `prepare`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from base_project import CHANNELS, BaseProject
from scipy.ndimage import gaussian_filter

from deepprofiler.commands.prepare import prepare
from deepprofiler.project import Project
from deepprofiler.project.site_quality import well_quality


def test_intensity_and_focus_of_sites(tmp_path: Path) -> None:
    base = BaseProject(tmp_path).write()
    for site in base.sites:
        path = base.image(well="A02", site=site, channel="ER")
        blurred = gaussian_filter(tifffile.imread(path).astype(float), 12)
        tifffile.imwrite(path, blurred.astype(np.uint16))
    project = Project(tmp_path, cores=1)
    prepare(project)
    wells = well_quality(project).set_index(["Metadata_Plate", "Metadata_Well"])
    assert len(wells) == 12
    for plate, well in (("P1", "A01"), ("P2", "B03")):
        for channel in CHANNELS:
            images = [tifffile.imread(base.image(plate, well, site, channel)) for site in "12"]
            expected = np.mean([image.mean() for image in images])
            assert wells.loc[(plate, well), f"Intensity_{channel}"] == pytest.approx(expected)
    assert wells["Focus_ER"].idxmin() == ("P1", "A02")
    assert wells["Focus_DNA"].idxmin() != ("P1", "A02")
    # A plate without its table is measured again.
    project.quality_path("P1").unlink()
    assert len(well_quality(project)) == 6
    prepare(project)
    assert len(well_quality(project)) == 12
