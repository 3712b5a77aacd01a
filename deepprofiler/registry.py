"""Models and crop generators by name, and the three places they are found in.

A plugin file lies in ``plugins/models`` or ``plugins/crop_generators`` and registers what it
defines::

    @MODELS.register
    def small(input_shape, num_classes, *, filters=32) -> Network: ...


    @CROP_GENERATORS.register("pairs")
    class Pairs(CropGenerator): ...
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from deepprofiler.errors import PluginError, nearest, plugin_code

ENTRY_POINTS = "deepprofiler.plugins"
# Project files are imported under this name, so that another project's can replace them.
_PROJECT = "deepprofiler_project_plugins"
_IMPORT = "the plugin cannot be imported"


class Registry:
    """Plugins of one kind by name.

    Parameters
    ----------
    kind : str
        What the plugins are, for messages: ``model``.
    folder : str
        Name of the folder in ``plugins`` that holds their files.
    arguments : tuple of str
        The positional arguments that the core passes; all others must be keyword-only and are
        the plugin's parameters.
    methods : tuple of str
        Methods that a plugin class must have; none where a plugin is a function.
    """

    def __init__(
        self, kind: str, folder: str, *, arguments: tuple[str, ...], methods: tuple[str, ...] = ()
    ) -> None:
        self.kind = kind
        self.folder = folder
        self._arguments = arguments
        self._methods = methods
        self._plugins: dict[str, Callable[..., Any]] = {}

    def register(self, target: Any) -> Any:
        """Add a plugin under its own name, or, given text, under that name.

        Raises
        ------
        PluginError
            The name is taken (both places are named), or the signature is not that of a plugin.
        """
        if not isinstance(target, str):
            return self._add(target.__name__, target)
        return lambda plugin: self._add(target, plugin)

    def names(self) -> list[str]:
        """Names of all plugins of this kind, sorted."""
        return sorted(self._plugins)

    def parameters(self, name: str) -> dict[str, Any]:
        """Parameters of a plugin with their defaults (``inspect.Parameter.empty``: none)."""
        signature = inspect.signature(self._get(name))
        return {
            key: parameter.default
            for key, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def check(self, name: str, params: Mapping[str, Any]) -> None:
        """Raise PluginError unless the plugin exists and takes just these parameters."""
        valid = self.parameters(name)
        where = f"{self.kind} `{name}`"
        for key in params:
            if key not in valid:
                raise PluginError(f"{where} has no parameter `{key}`{_advice(key, list(valid))}")
        missing = [key for key, default in valid.items() if default is inspect.Parameter.empty]
        missing = [key for key in missing if key not in params]
        if missing:
            raise PluginError(f"{where} needs a value for `{missing[0]}`; set it under `params`")

    def build(self, name: str, *args: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Call a plugin.

        Parameters
        ----------
        name : str
            Name of the plugin.
        *args
            What the core gives: input shape (S, S, C) and K to a model, nothing to a generator.
        params : mapping, optional
            The user's values for the plugin's parameters.

        Raises
        ------
        PluginError
            The name or a parameter does not exist (the nearest and the full list are given), or
            the plugin's code fails (with file and line).
        """
        params = params or {}
        self.check(name, params)
        plugin = self._get(name)
        given = ", ".join([*map(str, args), *(f"{key}={params[key]!r}" for key in params)])
        with plugin_code(plugin, f"`{name}({given})` cannot be built"):
            return plugin(*args, **params)

    def _get(self, name: str) -> Callable[..., Any]:
        if name not in self._plugins:
            raise PluginError(
                f"there is no {self.kind} `{name}`{_advice(name, self.names())}. "
                f"A project's own are looked for in plugins/{self.folder}."
            )
        return self._plugins[name]

    def _add(self, name: str, plugin: Any) -> Any:
        self._check_signature(name, plugin)
        if name in self._plugins:
            first, second = _place(self._plugins[name]), _place(plugin)
            # A module whose import failed halfway is executed again, and may fail again.
            if first != second:
                raise PluginError(
                    f"two {self.kind}s are called `{name}`: {first} and {second}; rename one"
                )
        self._plugins[name] = plugin
        return plugin

    def _check_signature(self, name: str, plugin: Any) -> None:
        where = f"{_place(plugin)}: {self.kind} `{name}`"
        lacking = [
            method for method in self._methods if not callable(getattr(plugin, method, None))
        ]
        if lacking:
            raise PluginError(f"{where} has no method `{lacking[0]}`; see CropGenerator")
        given = list(inspect.signature(plugin).parameters.values())
        for parameter in given:
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                raise PluginError(
                    f"{where} takes `{parameter}`; name every parameter, so that a misspelt one "
                    "in a config is found"
                )
        positional = tuple(p.name for p in given if p.kind is not p.KEYWORD_ONLY)
        if positional != self._arguments:
            expected = ", ".join((*self._arguments, "*", "…"))
            raise PluginError(
                f"{where} has the arguments ({', '.join(positional)}); they must be ({expected}): "
                "parameters of its own come after the `*`"
            )

    def _forget_project(self) -> None:
        self._plugins = {
            name: plugin
            for name, plugin in self._plugins.items()
            if not plugin.__module__.startswith(_PROJECT)
        }


MODELS = Registry("model", "models", arguments=("input_shape", "num_classes"))
CROP_GENERATORS = Registry(
    "crop generator", "crop_generators", arguments=(), methods=("draw", "combine", "show")
)


def discover(project_plugins: Path | None = None) -> list[Path]:
    """Import all plugins: the shipped ones, installed packages', and a project's own.

    Parameters
    ----------
    project_plugins : Path, optional
        A project's ``plugins`` folder; need not exist. Plugins of an earlier project are
        forgotten, those of installed packages are imported once.

    Returns
    -------
    list of Path
        The project's files that were executed.

    Raises
    ------
    PluginError
        A file cannot be imported (with file and line), or two plugins have one name.
    """
    for registry in (MODELS, CROP_GENERATORS):
        registry._forget_project()
    package = importlib.import_module("deepprofiler.plugins")
    for folder, path in _files(Path(str(package.__file__)).parent):
        with plugin_code(path, _IMPORT):
            importlib.import_module(f"deepprofiler.plugins.{folder}.{path.stem}")
    for point in entry_points(group=ENTRY_POINTS):
        with plugin_code(point.value, _IMPORT):
            point.load()
    executed = []
    for folder, path in _files(project_plugins) if project_plugins else ():
        with plugin_code(path, _IMPORT):
            _execute(f"{_PROJECT}.{folder}.{path.stem}", path)
        executed.append(path)
    return executed


def _files(plugins: Path) -> Iterator[tuple[str, Path]]:
    """Folder name and path of every plugin file, in a stable order."""
    for registry in (MODELS, CROP_GENERATORS):
        for path in sorted((plugins / registry.folder).glob("*.py")):
            if not path.name.startswith(("_", ".")):
                yield registry.folder, path


def _execute(name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses and pickling look a class's module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _place(plugin: Any) -> str:
    """File and line that define a plugin."""
    try:
        source = inspect.getsourcefile(plugin)
        return f"{source} line {inspect.getsourcelines(plugin)[1]}"
    except (OSError, TypeError):
        return str(plugin.__module__)


def _advice(name: str, valid: list[str]) -> str:
    """Advice for a name that does not exist."""
    if not valid:
        return "; it has none"
    return f"{nearest(name, valid)}; valid are {', '.join(valid)}"
