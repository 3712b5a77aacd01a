"""Fitted normalizers in a file: arrays and JSON in one ``.npz``, and nothing that runs code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.profiling.normalizer import Normalizer

FORMAT = "deepprofiler normalization"
VERSION = 1


def write_steps(path: Path, steps: Sequence[Normalizer]) -> None:
    """Write fitted steps in order; see :meth:`~deepprofiler.profiling.chain.Chain.save`."""
    about, arrays = [], {}
    for position, step in enumerate(steps):
        if not hasattr(step, "names_in_"):
            raise DataError(f"{step.name} is not fitted, so there is nothing to save")
        facts, own = step.state()
        arrays.update({f"{position}/{key}": array for key, array in own.items()})
        counts = step.n_
        about.append(
            {
                "name": step.name,
                "params": step.params(),
                "reference": step.reference_,
                # JSON has no keys but text, and a plate's name may be a number.
                "n": list(map(list, counts.items())) if isinstance(counts, dict) else counts,
                "names_in": step.names_in_,
                "names": step.names_,
                "left_out": step.left_out_,
                "notes": step.notes_,
                "facts": facts,
            }
        )
    text = json.dumps({"format": FORMAT, "version": VERSION, "steps": about}, default=_plain)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, chain=np.array(text), **arrays)


def read_steps(path: Path, kinds: Mapping[str, type[Normalizer]]) -> list[Normalizer]:
    """Read what :func:`write_steps` wrote.

    Parameters
    ----------
    path : Path
    kinds : mapping
        Normalizers by name.

    Raises
    ------
    DataError
        The file is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; `analyze` writes it beside the profiles")
    try:
        # Opened here, for NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        found = json.loads(str(arrays.pop("chain")))
        if (found["format"], found["version"]) != (FORMAT, VERSION):
            raise ValueError(f"{found['format']} {found['version']}, not {FORMAT} {VERSION}")
        return [
            _step(position, about, arrays, kinds) for position, about in enumerate(found["steps"])
        ]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} does not hold a normalization: {error}") from None


def _step(
    position: int,
    about: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
    kinds: Mapping[str, type[Normalizer]],
) -> Normalizer:
    step = kinds[about["name"]](**about["params"])
    counts = about["n"]
    step.n_ = dict(counts) if isinstance(counts, list) else counts
    step.names_in_, step.names_ = about["names_in"], about["names"]
    step.left_out_, step.notes_ = about["left_out"], about["notes"]
    step.reference_ = about["reference"]
    begin = f"{position}/"
    own = {key.removeprefix(begin): one for key, one in arrays.items() if key.startswith(begin)}
    step.restore(about["facts"], own)
    return step


def _plain(value: Any) -> Any:
    """Return what JSON can hold in the place of a number or array of NumPy."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be saved")
