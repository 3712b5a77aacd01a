"""What an output was made from, and whether it would be made from the same now.

Every output of the program says what it was made from in one form: the settings that decide it
(:mod:`deepprofiler.parameters` says which these are), the digests of other outputs that went in,
and the state of the files that went in. An output is current while nothing of this differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from deepprofiler import __version__
from deepprofiler.config.schema import Config
from deepprofiler.parameters import Decides, deciding

_PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "scikit-image", "h5py")


class FileState(NamedTuple):
    """Size in bytes, time of the last change in ns, and SHA-256 of a file."""

    size: int
    modified: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Read a file's state.

        Raises
        ------
        OSError
            It cannot be read.
        """
        status = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(status.st_size, status.st_mtime_ns, digest)

    def is_of(self, path: Path) -> bool:
        """Tell whether a file is still the same.

        It is read only where its size is the same and its time is not: copying a project changes
        all times. A file that is no longer there is not another one.
        """
        try:
            status = path.stat()
            if (status.st_size, status.st_mtime_ns) == (self.size, self.modified):
                return True
            return status.st_size == self.size and FileState.of(path).digest == self.digest
        except FileNotFoundError:
            return True
        except OSError:
            return False


class Difference(NamedTuple):
    """One thing that an output was made from and that is not the same any more."""

    kind: Literal["output", "setting", "input", "file"]
    name: str
    before: Any
    now: Any


@dataclass(frozen=True)
class Provenance:
    """What an output was made from.

    Attributes
    ----------
    output : str
        What it is, such as ``crops``; a value of :class:`~deepprofiler.parameters.Decides`.
    settings : dict
        Key path of the configuration to value, and other values that decide it.
    inputs : dict
        Name of another output, or of a table, to its digest; None where there is none.
    files : dict
        Path, as the index names it, to the state of an image.
    versions : dict
        Package to version; another version makes nothing outdated.
    """

    output: str
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str | None] = field(default_factory=dict)
    files: dict[str, FileState] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Everything as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read what :meth:`to_json` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            The text is something else.
        """
        values = json.loads(text)
        values["files"] = {name: FileState(*state) for name, state in values["files"].items()}
        return cls(**values)

    def with_inputs(self, inputs: Mapping[str, str | None]) -> Provenance:
        """Add digests of other outputs that went in."""
        return replace(self, inputs=self.inputs | dict(inputs))

    def with_files(self, files: Mapping[str, FileState]) -> Provenance:
        """Add the files that went in."""
        return replace(self, files=self.files | dict(files))

    @property
    def digest(self) -> str:
        """SHA-256 of settings, inputs and the contents of files, as hexadecimal text."""
        contents = {name: state.digest for name, state in self.files.items()}
        return digest_of([self.output, self.settings, self.inputs, contents])

    def differences(self, now: Provenance, root: Path) -> list[Difference]:
        """Compare with what the output would be made from now.

        Parameters
        ----------
        now : Provenance
            Its settings and inputs. Which files would go in is one of the inputs; the files
            themselves are compared with their stored states.
        root : Path
            The project's folder, which relative names of files start from.

        Returns
        -------
        list of Difference
            Empty where the output is current.
        """
        if self.output != now.output:
            return [Difference("output", "output", self.output, now.output)]
        return [
            # Settings that no longer decide the output are ignored.
            *_different(
                "setting",
                {name: value for name, value in self.settings.items() if name in now.settings},
                _plain(now.settings),
            ),
            *_different("input", self.inputs, now.inputs),
            *(
                Difference("file", name, state, root / name)
                for name, state in self.files.items()
                if not state.is_of(root / name)
            ),
        ]


def provenance(
    config: Config,
    *outputs: Decides,
    values: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str | None] | None = None,
    files: Mapping[str, FileState] | None = None,
) -> Provenance:
    """Say what an output is made from.

    Parameters
    ----------
    config : Config
        Its settings that are tagged with one of ``outputs`` are taken.
    *outputs : Decides
        What the output is; the first names it.
    values : mapping, optional
        Values that decide the output beside the configuration, or in place of a key of it: the
        channels of the index for an empty ``dataset.channels``.
    inputs : mapping, optional
    files : mapping, optional
    """
    settings = deciding(config, *outputs) | dict(values or {})
    return Provenance(
        str(outputs[0]), _plain(settings), dict(inputs or {}), dict(files or {}), versions()
    )


def stored_provenance(text: str | None) -> Provenance | None:
    """Read what an output says it was made from; None where it does not say it in this form."""
    try:
        return Provenance.from_json(text or "")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def describe(differences: Iterable[Difference], shown: int = 3, *, file: str = "image file") -> str:
    """Say what differs, in one line: ``crops.size was 64 and is 128; 2 image files changed``.

    Parameters
    ----------
    differences : iterable of Difference
    shown : int
        So many settings and inputs are named.
    file : str
        What the files are, in the singular.
    """
    named, files = [], 0
    for difference in differences:
        if difference.kind == "file":
            files += 1
        elif difference.kind == "setting":
            named.append(f"{difference.name} was {difference.before} and is {difference.now}")
        else:
            named.append(f"{difference.name} changed")
    more = [f"and {len(named) - shown} more"] if len(named) > shown else []
    changed = [f"{files} {file}{'s' if files > 1 else ''} changed"] if files else []
    return "; ".join(named[:shown] + more + changed)


def digest_of(values: Any) -> str:
    """SHA-256 of values that JSON can hold, as hexadecimal text; the order of keys is ignored."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of this program and of the packages that decide its numbers."""
    return {"deepprofiler": __version__, **{name: version(name) for name in _PACKAGES}}


def _different(
    kind: Literal["setting", "input"], before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[Difference]:
    return [
        Difference(kind, name, before.get(name), now.get(name))
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON gives them back: lists in place of tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain
