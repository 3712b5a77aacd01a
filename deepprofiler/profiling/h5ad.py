"""Profiles in ``.h5ad``, the file of AnnData, which scanpy and mantispy read.

``obs`` holds the metadata, text as categories; ``X`` the features, in single precision as those
programs expect; ``var_names`` the features' names. What mantispy's schema 2.0 asks for besides,
what a row and a feature is, goes along in ``uns`` and ``var``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepprofiler.errors import ConfigError

# The schema's own names. Its control column is true or false; ours, with words, is kept beside.
_PLATE, _WELL, _CONTROL = (f"Metadata_{name}" for name in ("Plate", "Well", "Control"))
_CONTROL_IN_WORDS = f"{_CONTROL}_Role"
_MEASURED = ("Cells_", "Cytoplasm_", "Nuclei_")


def write_h5ad(metadata: pd.DataFrame, features: pd.DataFrame, path: Path) -> None:
    """Write a file of AnnData.

    Parameters
    ----------
    metadata : DataFrame
        n rows. ``Metadata_Control``, if it is text, becomes ``Metadata_Control_Role``, since
        mantispy has another use of that name; :func:`read_h5ad` gives it back.
    features : DataFrame
        n rows of D numbers.
    path : Path

    Raises
    ------
    ConfigError
        The package anndata is not installed.
    """
    anndata = _anndata()
    described = {
        str(name): column.to_numpy()
        if pd.api.types.is_numeric_dtype(column)
        else pd.Categorical(column.to_numpy(dtype=object))
        for name, column in metadata.items()
    }
    if isinstance(described.get(_CONTROL), pd.Categorical):
        described = {
            _CONTROL_IN_WORDS if name == _CONTROL else name: column
            for name, column in described.items()
        }
    rows = pd.Index([str(row) for row in range(len(metadata))])
    anndata.AnnData(
        X=features.to_numpy(dtype=np.float32),
        obs=pd.DataFrame(described, index=rows),
        var=_features([str(name) for name in features.columns]),
        uns={"mantispy": _rows(metadata)},
    ).write_h5ad(path)


def read_h5ad(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a file of AnnData, written here or by another program.

    Returns
    -------
    metadata : DataFrame
        n rows, the columns of ``obs``; the names of its rows are not kept.
    features : DataFrame
        n rows of D numbers, called after ``var_names``.

    Raises
    ------
    ConfigError
        The package anndata is not installed.
    ValueError
        The file holds no matrix.
    """
    data = _anndata().read_h5ad(path)
    if data.X is None:
        raise ValueError("it holds no matrix X")
    matrix = data.X if isinstance(data.X, np.ndarray) else data.X.toarray()
    features = pd.DataFrame(matrix, columns=[str(name) for name in data.var_names])
    metadata = data.obs.reset_index(drop=True)
    if _CONTROL not in metadata:
        metadata = metadata.rename(columns={_CONTROL_IN_WORDS: _CONTROL})
    return metadata, features


def _rows(metadata: pd.DataFrame) -> dict[str, Any]:
    """Say what a row is: a well, or whatever its columns of text name together."""
    well = [_PLATE, _WELL]
    if set(well) <= set(metadata.columns) and not metadata.duplicated(well).any():
        return {"schema_version": "2.0", "resolution": "well", "grouped_by": well}
    text = [
        _CONTROL_IN_WORDS if name == _CONTROL else str(name)
        for name, column in metadata.items()
        if not pd.api.types.is_numeric_dtype(column)
    ]
    return {"schema_version": "2.0", "resolution": "aggregate", "grouped_by": text}


def _features(names: list[str]) -> pd.DataFrame:
    """Say what each feature is: learned, or a measurement of CellProfiler."""
    measured = [name.startswith(_MEASURED) for name in names]
    unknown = ["object", "feature_group", "channel", "radial_bin", "params"]
    return pd.DataFrame(
        {
            "feature": names,
            **dict.fromkeys(unknown, ""),
            **dict.fromkeys(("scale", "angle", "gray_levels"), np.nan),
            "is_feature": True,
            "feature_kind": ["measurement" if it else "embedding" for it in measured],
        },
        index=pd.Index(names),
    ).astype(dict.fromkeys(("feature", "feature_kind", *unknown), "category"))


def _anndata() -> Any:
    try:
        import anndata
    except ImportError:
        raise ConfigError(
            'files that end in .h5ad need anndata: pip install "deepprofiler-keras[anndata]", or '
            "write .parquet"
        ) from None
    return anndata
