"""Reading and writing tables of profiles: Parquet, CSV and AnnData (.h5ad).

A file of its own beside the profiles: formats and dialects, which computations need not know.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from deepprofiler.columns import PREFIX
from deepprofiler.errors import ConfigError, DataError, install_extra
from deepprofiler.files import replacing

# The schema's own names. Its control column is true or false; ours, with words, is kept beside.
_PLATE, _WELL, _CONTROL = (f"Metadata_{name}" for name in ("Plate", "Well", "Control"))
_CONTROL_IN_WORDS = f"{_CONTROL}_Role"
_MEASURED = ("Cells_", "Cytoplasm_", "Nuclei_")


_NUMBERS = r"ImageNumber|ObjectNumber|TableNumber|Number_Object_Number"
# Any of these columns says that a table is of CellProfiler or CytoTable.
_FOREIGN = re.compile(rf"(?:.+_)?(?:{_NUMBERS}|AreaShape_.+)|Image_.+")
# Their columns that say which image or object a row is, where it lies, and how many parts it has,
# not how it looks. Those of objects may follow the name of a compartment.
_OF_IMAGES = (
    r"(?:Image_)?(?:FileName|PathName|URL|MD5Digest|Frame|Series|Channel|Group|Height|Width|Scaling"
    r"|ExecutionTime|ModuleError|ProcessingStatus|Count)_.+"
)
_OF_OBJECTS = (
    r"Neighbors_(?:First|Second)ClosestObjectNumber_.+"
    r"|TrackObjects_(?:Label|ParentImageNumber|ParentObjectNumber)_.+"
    r"|Parent_.+|Children_.+_Count"
    r"|Location_(?:Center|CenterMassIntensity|MaxIntensity)_[XYZ](?:_.+)?"
    r"|AreaShape_(?:Center|BoundingBoxMinimum|BoundingBoxMaximum)_[XYZ]"
)
_IDENTIFIES = re.compile(rf"{_OF_IMAGES}|(?:.+_)?(?:{_NUMBERS}|{_OF_OBJECTS})")
_PER_OBJECT = re.compile(rf"(?:.+_)?(?:{_OF_OBJECTS})")
_IMAGE_NUMBER, _OBJECT_NUMBER = (
    re.compile(rf"{PREFIX}(?:.+_)?{name}") for name in ("ImageNumber", "Object_?Number")
)

MISSING_NUMBERS = ["", "nan", "NaN", "NA"]


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as the name of ``path`` says; an interrupted write leaves no file.

    Raises
    ------
    DataError
        The name does not end in .parquet, .csv, .csv.gz or .h5ad.
    ConfigError
        It ends in .h5ad, and the package anndata is not installed.
    """
    kind = _kind(path)
    with replacing(path) as temporary:
        _WRITERS[kind](frame, temporary)


def read_table(path: Path, numeric: Sequence[str]) -> pd.DataFrame:
    """Read a table; in CSV, metadata is text but for the columns in ``numeric``.

    Raises
    ------
    DataError
        The file is missing, damaged, of another kind, or its columns are not those of profiles.
    ConfigError
        It ends in .h5ad, and the package anndata is not installed.
    """
    kind = _kind(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        if kind == ".parquet":
            return _read_parquet(path)
        return _read_h5ad(path) if kind == ".h5ad" else _read_csv(path, numeric)
    except (OSError, EOFError, ValueError, csv.Error, zlib.error, DataError) as error:
        raise DataError(f"{path}: {error}") from None


def check_columns(metadata: list[str], names: list[str]) -> None:
    """Raise DataError for names that metadata or features cannot have."""
    for name in metadata:
        if not name.startswith(PREFIX):
            raise DataError(f"the metadata column {name} does not begin with {PREFIX}")
    for position, name in enumerate(names):
        if name.startswith(PREFIX):
            raise DataError(f"the feature {name} begins with {PREFIX}, as only metadata does")
        if not name.strip() or name.startswith("Unnamed: ") or name == "__index_level_0__":
            raise DataError(
                f"feature column {position + 1} has no name; if it is a saved row index, write the "
                "table without it (index=False)"
            )
    columns = metadata + names
    if len(set(columns)) < len(columns):
        doubled = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"the column {doubled} occurs more than once")


def _kind(path: Path) -> str:
    kind = next((end for end in _WRITERS if path.name.lower().endswith(end)), None)
    if kind is None:
        raise DataError(f"{path}: profiles are kept as {', '.join(_WRITERS)}; rename it")
    return kind


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def _write_gzip(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, compression="gzip")


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False)


def _write_h5ad(frame: pd.DataFrame, path: Path) -> None:
    describes = [str(name).startswith(PREFIX) for name in frame.columns]
    write_h5ad(frame.loc[:, describes], frame.loc[:, [not it for it in describes]], path)


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".csv.gz": _write_gzip,
    ".h5ad": _write_h5ad,
}


def _read_parquet(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    # Row numbers that pandas saved are dropped; an index with a name is a column like any other.
    return frame.reset_index(drop=frame.index.names == [None])


def _read_h5ad(path: Path) -> pd.DataFrame:
    metadata, features = read_h5ad(path)
    names = [plain_name(str(name), foreign=True) for name in metadata.columns]
    # What is metadata is known from its place, whatever other programs call it.
    metadata.columns = pd.Index(
        [name if name.startswith(PREFIX) else f"{PREFIX}{name}" for name in names]
    )
    return pd.concat([metadata, features], axis=1)


def _read_csv(path: Path, numeric: Sequence[str]) -> pd.DataFrame:
    # Without a warning, pandas renames duplicated columns, takes the first column for row names
    # where a row is longer than the header, and pads a shorter row.
    delimiter, names, lines = _layout(path)
    foreign = is_foreign(names)
    metadata = [name for name in names if plain_name(name, foreign=foreign).startswith(PREFIX)]
    numbers = [name for name in names if name not in metadata or name in numeric]
    check_columns(
        [plain_name(name, foreign=foreign) for name in metadata],
        [name for name in names if name not in metadata],
    )
    how: dict[str, Any] = {"sep": delimiter, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        table: pd.DataFrame = pd.read_csv(
            path,
            dtype={name: "float64" if name in numbers else "str" for name in names},
            na_values=dict.fromkeys(numbers, MISSING_NUMBERS),
            **how,
        )
        return table
    except ValueError as error:
        table = pd.read_csv(path, dtype=str, **how)
        for name in numbers:
            present = table[name].mask(table[name].isin(MISSING_NUMBERS))
            wrong = np.flatnonzero(pd.to_numeric(present, errors="coerce").isna() & present.notna())
            if len(wrong):
                raise DataError(
                    f"line {lines[wrong[0]]}, column {name}: {present.iloc[wrong[0]]!r} is not a "
                    f"number; name the column {PREFIX}{name} if it describes the profiles"
                ) from None
        raise DataError(str(error)) from None


def _opened(path: Path) -> TextIO:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _layout(path: Path) -> tuple[str, list[str], list[int]]:
    """Delimiter, header, and the line in which each row ends; all rows are of one width."""
    lines = []
    with _opened(path) as file:
        delimiter = max(",;\t", key=file.readline().count)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        names = next(reader, [])
        for row in reader:
            if row and len(row) != len(names):
                raise DataError(
                    f"line {reader.line_num} has {len(row)} cells, the header has {len(names)}: "
                    "correct that line, which may have an extra delimiter"
                )
            if row:
                lines.append(reader.line_num)
    return delimiter, names, lines


def is_foreign(names: Iterable[str]) -> bool:
    """Tell whether columns are those of CellProfiler or CytoTable."""
    return any(_FOREIGN.fullmatch(name) or name.startswith(_MEASURED) for name in names)


def plain_name(name: str, *, foreign: bool) -> str:
    """Return what a column is called here; ``foreign``: it is of CellProfiler or CytoTable.

    ``Image_Metadata_Plate`` is ``Metadata_Plate``; ``ImageNumber``, ``Nuclei_Parent_Cells``,
    ``Cells_Location_Center_X`` and others that identify, place or count objects are
    ``Metadata_ImageNumber`` and so on.
    """
    if name.startswith(f"Image_{PREFIX}"):
        return name.removeprefix("Image_")
    if foreign and not name.startswith(PREFIX) and _IDENTIFIES.fullmatch(name):
        return PREFIX + name
    return name


def identifying(metadata: Iterable[str]) -> list[str]:
    """Return the columns of metadata that CellProfiler identifies, places or counts objects by."""
    return [name for name in metadata if _IDENTIFIES.fullmatch(name.removeprefix(PREFIX))]


def object_keys(metadata: Iterable[str]) -> list[str]:
    """Return the columns of metadata that tell the objects of a table of CellProfiler apart.

    Those are numbers of images and objects, and whatever else is not a place, count or number of
    another object. Empty where rows are no objects: where images or objects have no number.
    """
    names = list(metadata)
    numbered = any(map(_IMAGE_NUMBER.fullmatch, names)), any(map(_OBJECT_NUMBER.fullmatch, names))
    if not all(numbered):
        return []
    return [name for name in names if not _PER_OBJECT.fullmatch(name.removeprefix(PREFIX))]


# Files of AnnData.


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
        str(name): _numbers(column)
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
        X=features.to_numpy(dtype=np.float32, na_value=np.nan),
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


def _numbers(column: pd.Series) -> Any:
    """Return numbers as AnnData can write them: of NumPy, or whole and true with missing ones."""
    if isinstance(column.dtype, np.dtype):
        return column.to_numpy()
    kind = column.dtype.kind
    if kind == "f":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if column.hasnans:
        return column.astype("boolean" if kind == "b" else "Int64").array
    return column.to_numpy(dtype=np.bool_ if kind == "b" else np.int64)


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
            f"files that end in .h5ad need anndata: {install_extra('anndata')}, or write .parquet"
        ) from None
    return anndata
