"""BBBC013 as a project, and permuted treatments; other experiments use it too."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from deepprofiler.commands.setup import setup
from deepprofiler.project import Project

_WITHIN = ["Metadata_Plate", "Metadata_Replicate"]


def lay_out(project: Project, data: Path) -> None:
    """Copy the index and missing images into a project."""
    setup(project)
    for image in sorted((data / "images").iterdir()):
        target = project.images_folder / image.name
        if not target.exists():
            shutil.copyfile(image, target)
    shutil.copyfile(data / "index.csv", project.index_path)


def permute_treatments(project: Project, name: str, seed: int) -> None:
    """Permute the treatments of treated wells within each plate and replicate.

    The result is written as another index of the project, called ``name``.
    """
    rng = np.random.default_rng(seed)
    index = pd.read_csv(project.index_path, dtype=str, keep_default_na=False)
    treated = index[index["Metadata_Control"] != "negative"]
    wells = treated.drop_duplicates([*_WITHIN, "Metadata_Well"])
    for _, group in wells.groupby(_WITHIN):
        names = dict(
            zip(group["Metadata_Well"], rng.permutation(group["Metadata_Treatment"]), strict=True)
        )
        same = (index[_WITHIN] == group[_WITHIN].iloc[0]).all(axis=1)
        rows = same & index["Metadata_Well"].isin(list(names))
        index.loc[rows, "Metadata_Treatment"] = index.loc[rows, "Metadata_Well"].map(names)
    index.to_csv(project.index_path.with_name(name), index=False)
