"""A chain of normalizers, built by name, and the file that keeps a fitted one.

Format of the file, version 2: one ``.npz`` with the arrays of every step and one JSON text, with
each step's name, parameters, features, what it left out (code and values) and its
:class:`~deepprofiler.profiling.normalizer.FitSummary`. Version 1 held sentences in the place of
codes and summaries; it is read, with the numbers that it has.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.normalizer import (
    BatchFit,
    FitSummary,
    LargestValue,
    LeftOut,
    Normalizer,
    PlateControls,
)
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.registry import NORMALIZERS

FORMAT = "deepprofiler normalization"
VERSION = 2


class Chain:
    """Each step is fitted on what the steps before it give.

    Parameters
    ----------
    steps : sequence of Normalizer
        Without steps, profiles stay as they are.
    made_from : str
        What the chain was fitted on, in any form of the caller's; it is saved with the steps.
    """

    def __init__(self, steps: Sequence[Normalizer], made_from: str = "") -> None:
        self.steps = list(steps)
        self.made_from = made_from

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Fit all steps; parameters as for :class:`Normalizer`."""
        for position, step in enumerate(self.steps):
            step.fit(profiles, controls=controls, cells=cells)
            if position < len(self.steps) - 1:
                profiles = step.transform(profiles)
                cells = None if cells is None else step.transform_moments(cells)
        return self

    def transform(self, profiles: Profiles) -> Profiles:
        """Apply all steps, in order."""
        for step in self.steps:
            profiles = step.transform(profiles)
        return profiles

    def covers(self, profiles: Profiles) -> np.ndarray:
        """Tell which profiles can be transformed, such as those of plates in the fit, (n,) bool."""
        covered = np.ones(len(profiles), bool)
        for step in self.steps:
            covered &= step.covers(profiles)
        return covered

    def save(self, path: Path) -> None:
        """Write the fitted steps to one ``.npz`` file; an interrupted write leaves no file.

        The file holds arrays and text, and reading it runs no code of the file: each step's name,
        parameters, features, features left out, summary of the fit, and maps.

        Raises
        ------
        DataError
            A step is not fitted.
        """
        _write_steps(Path(path), self.steps, self.made_from)

    @classmethod
    def load(cls, path: Path) -> Chain:
        """Read a chain that was saved, to apply it to other profiles.

        Steps that correct only the profiles of their fit (``rank-normal``, ``harmony``) are read,
        but refuse to transform any; ``well-position`` refuses plates that were not in its fit.

        Raises
        ------
        DataError
            The file is missing, damaged or of another kind.
        PluginError
            It names a normalizer that is not registered, such as one of another project.
        """
        return cls(*_read_steps(Path(path)))

    @property
    def left_out_(self) -> dict[str, LeftOut]:
        """Features left out by any step, with the reason."""
        return {name: reason for step in self.steps for name, reason in step.left_out_.items()}


def make_chain(
    steps: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    plate: str,
    batch: str,
    well: str | None = None,
    count: str | None = None,
    seed: int = 0,
) -> Chain:
    """Build a chain from names and parameters, as a config gives them.

    Parameters
    ----------
    steps : iterable of (str, mapping)
        Names of :data:`NORMALIZERS` and their parameters.
    plate, batch, well, count : str
        Columns of metadata, given to the steps that take them; the last two may be None.
    seed : int
        Given to the steps that draw at random.

    Raises
    ------
    PluginError
        A name or a parameter does not exist, or a parameter's value cannot be used.
    """
    shared = {"plate": plate, "batch": batch, "well": well, "count": count, "seed": seed}
    shared = {key: value for key, value in shared.items() if value is not None}
    return Chain([NORMALIZERS.build(name, params=params, **shared) for name, params in steps])


def _write_steps(path: Path, steps: Sequence[Normalizer], made_from: str) -> None:
    """Write fitted steps in order; see :meth:`Chain.save`."""
    entries, arrays = [], {}
    for position, step in enumerate(steps):
        if not hasattr(step, "fitted_"):
            raise DataError(f"{step.name} is not fitted, so there is nothing to save")
        facts, own = step.state()
        arrays.update({f"{position}/{key}": array for key, array in own.items()})
        entries.append(
            {
                "name": step.name,
                "params": step.params(),
                "names_in": step.names_in_,
                "names": step.names_,
                "left_out": {name: asdict(reason) for name, reason in step.left_out_.items()},
                "fitted": _summary_to_json(step.fitted_),
                "facts": facts,
            }
        )
    contents = {"format": FORMAT, "version": VERSION, "made_from": made_from, "steps": entries}
    text = json.dumps(contents, default=_plain)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, chain=np.array(text), **arrays)


def _read_steps(path: Path) -> tuple[list[Normalizer], str]:
    """Read fitted steps and what they were made from; see :meth:`Chain.load`."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; `analyze` writes it beside the profiles")
    try:
        # Opened here, since NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        contents = json.loads(str(arrays.pop("chain")))
        version = contents["version"]
        if contents["format"] != FORMAT or version not in range(1, VERSION + 1):
            raise ValueError(f"{contents['format']} {version}, not {FORMAT} 1 to {VERSION}")
        steps = [
            _read_step(entry, version, _below(arrays, f"{position}/"))
            for position, entry in enumerate(contents["steps"])
        ]
        return steps, str(contents.get("made_from", ""))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} does not hold a normalization: {error}") from None


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with a prefix, without it."""
    return {
        key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)
    }


def _read_step(entry: Mapping[str, Any], version: int, arrays: dict[str, np.ndarray]) -> Normalizer:
    step: Normalizer = NORMALIZERS.get(entry["name"])(**entry["params"])
    step.names_in_, step.names_ = entry["names_in"], entry["names"]
    if version == 1:
        step.left_out_ = {
            name: LeftOut("text", values={"reason": reason})
            for name, reason in entry["left_out"].items()
        }
        step.fitted_ = _summary_of_version_1(entry)
    else:
        step.left_out_ = {name: LeftOut(**reason) for name, reason in entry["left_out"].items()}
        step.fitted_ = _summary_from_json(entry["fitted"])
    step.restore(entry["facts"], arrays)
    return step


def _summary_to_json(fitted: FitSummary) -> dict[str, Any]:
    values = asdict(fitted)
    if isinstance(fitted.n, dict):
        # JSON has no keys but text, and a plate's name may be a number.
        values["n"] = [list(pair) for pair in fitted.n.items()]
    return values


def _summary_from_json(values: Mapping[str, Any]) -> FitSummary:
    fewest, largest, counts = (values[key] for key in ("fewest_controls", "largest", "counts"))
    restored = {
        "n": _counts(values["n"]),
        "batches": tuple(BatchFit(**batch) for batch in values["batches"]),
        "fewest_controls": None if fewest is None else PlateControls(**fewest),
        "largest": None if largest is None else LargestValue(**largest),
        "counts": None if counts is None else tuple(counts),
    }
    return FitSummary(**{**values, **restored})


def _summary_of_version_1(entry: Mapping[str, Any]) -> FitSummary:
    """Return what the sentences of version 1 say of a fit: its reference, unit and n."""
    reference = str(entry["reference"])
    return FitSummary(
        reference="controls" if reference.startswith("negative control") else "all",
        unit="cells" if reference.endswith("cells") else "wells",
        n=_counts(entry["n"]),
        d=len(entry["names_in"]),
        group=entry["params"].get("plate") if reference.endswith("of each plate") else None,
    )


def _counts(n: Any) -> int | dict[Any, int]:
    """Return a number, or the numbers of groups, which are stored as pairs."""
    return dict(n) if isinstance(n, list) else n


def _plain(value: Any) -> Any:
    """Return what JSON can hold in place of a number or array of NumPy."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be saved")
