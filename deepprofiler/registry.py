"""Everything that is chosen by name: models, crop generators, segmenters, normalizers, evaluations.

A plugin registers itself under a name. Its keyword-only parameters are what a configuration may
set::

    @MODELS.register
    def small(input_shape, num_classes, *, filters: int = 32) -> Network: ...


    @CROP_GENERATORS.register("pairs")
    class Pairs(CropGenerator): ...

Plugins are looked for in three places: those shipped with the package, installed packages (entry
points of the group ``deepprofiler.plugins``), and a project's own ``plugins/<kind>/*.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints, overload

from deepprofiler.errors import PluginError, nearest, plugin_code

Plugin = TypeVar("Plugin", bound=Callable[..., Any])

ENTRY_POINTS = "deepprofiler.plugins"
LOG = logging.getLogger(__name__)
# A project's files are imported under this name, so that another project's can replace them.
_PROJECT = "deepprofiler_project_plugins"
_IMPORT = "the plugin cannot be imported"


class Registry:
    """Plugins of one kind by name.

    Parameters
    ----------
    kind : str
        What the plugins are, for messages: ``model``.
    folder : str
        Name of the folder in a project's ``plugins`` that holds their files.
    arguments : tuple of str
        Positional arguments that the core passes.
    shared : tuple of str
        Keyword-only arguments that the core passes to every plugin that declares them, unless a
        configuration gives another value.
    methods : tuple of str
        Methods that a plugin class must have; none where a plugin is a function.
    shipped : tuple of str
        Modules whose import registers the plugins of this package; of a package that holds a
        file for each, all its files are imported.
    """

    def __init__(
        self,
        kind: str,
        folder: str,
        *,
        arguments: tuple[str, ...] = (),
        shared: tuple[str, ...] = (),
        methods: tuple[str, ...] = (),
        shipped: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.folder = folder
        self._arguments = arguments
        self._shared = shared
        self._methods = methods
        self._shipped = shipped
        self._plugins: dict[str, Callable[..., Any]] = {}
        self._conflicts: dict[str, str] = {}
        self._broken: dict[str, str] = {}

    @overload
    def register(self, target: str) -> Callable[[Plugin], Plugin]: ...

    @overload
    def register(self, target: Plugin) -> Plugin: ...

    def register(self, target: Any) -> Any:
        """Add a plugin under its own name; or return a decorator that adds it under another name.

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
        self._import_shipped()
        return sorted(self._plugins)

    def get(self, name: str) -> Callable[..., Any]:
        """Return a plugin.

        Raises
        ------
        PluginError
            There is none of that name (the nearest and the full list follow), or there are two.
        """
        self._import_shipped()
        if name in self._conflicts:
            raise PluginError(self._conflicts[name])
        if name not in self._plugins:
            broken = "".join(f"\nnot imported: {problem}" for problem in self._broken.values())
            raise PluginError(
                f"there is no {self.kind} `{name}`{_advice(name, self.names())}. "
                f"A project's own are looked for in plugins/{self.folder}.{broken}"
            )
        return self._plugins[name]

    def parameters(self, name: str) -> dict[str, Any]:
        """Parameters of a plugin with their defaults (``inspect.Parameter.empty``: none).

        Shared arguments are not listed, since the core gives them.
        """
        return {
            key: default for key, default in self._keywords(name).items() if key not in self._shared
        }

    def _keywords(self, name: str) -> dict[str, Any]:
        """Keyword-only arguments of a plugin with their defaults, shared ones too."""
        return {
            key: parameter.default
            for key, parameter in inspect.signature(self.get(name)).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }

    def check(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Check the values of a plugin's parameters against its signature.

        Returns
        -------
        dict
            The values, converted to the annotated types: YAML has lists, and a plugin may want a
            tuple.

        Raises
        ------
        PluginError
            There is no such plugin or parameter, a value is missing, or it is of another type.
        """
        valid = self.parameters(name)
        where = f"{self.kind} `{name}`"
        for key in params:
            if key not in self._keywords(name):
                raise PluginError(f"{where} has no parameter `{key}`{_advice(key, list(valid))}")
        for key, default in valid.items():
            if default is inspect.Parameter.empty and key not in params:
                raise PluginError(f"{where} needs a value for `{key}`; set it under `params`")
        return _converted(self.get(name), params, where)

    def build(
        self, name: str, *args: Any, params: Mapping[str, Any] | None = None, **shared: Any
    ) -> Any:
        """Call a plugin.

        Parameters
        ----------
        name : str
            Name of the plugin.
        *args
            Its positional arguments: input shape (S, S, C) and K for a model.
        params : mapping, optional
            The user's values for the plugin's parameters.
        **shared
            Values of the registry's shared arguments; those that the plugin does not declare are
            not passed.

        Raises
        ------
        PluginError
            The name or a parameter does not exist, or the plugin's code fails (with file and
            line).
        """
        values = self.check(name, params or {})
        plugin = self.get(name)
        declared = inspect.signature(plugin).parameters
        passed = {
            key: value for key, value in shared.items() if key in declared and key not in values
        }
        positional = [str(value) for value in args if isinstance(value, int | str | tuple)]
        shown = ", ".join([*positional, *(f"{key}={value!r}" for key, value in values.items())])
        with plugin_code(plugin, f"`{name}({shown})` cannot be built"):
            try:
                return plugin(*args, **passed, **values)
            except ValueError as error:
                # Without arguments of the core, nothing but a parameter can be wrong.
                if self._arguments:
                    raise
                raise PluginError(f"{self.kind} `{name}`: {error}") from error

    def _import_shipped(self) -> None:
        shipped, self._shipped = self._shipped, ()
        for name in shipped:
            package = importlib.import_module(name)
            # A namespace such as plugins/models has files only; a module registers by itself.
            for path in _files([Path(folder) for folder in getattr(package, "__path__", ())]):
                if getattr(package, "__file__", None) is None:
                    with plugin_code(path, _IMPORT):
                        importlib.import_module(f"{name}.{path.stem}")

    def _add(self, name: str, plugin: Any) -> Any:
        self._check_signature(name, plugin)
        if name in self._plugins:
            first, second = _place(self._plugins[name]), _place(plugin)
            # A module whose import failed halfway is executed again, and may fail again.
            if first != second:
                self._conflicts[name] = (
                    f"two {self.kind}s are called `{name}`: {first} and {second}; rename one"
                )
                raise PluginError(self._conflicts[name])
        self._plugins[name] = plugin
        # A class tells its name; one that declares a name of its own keeps it.
        if inspect.isclass(plugin) and "name" not in vars(plugin):
            plugin.name = name  # type: ignore[attr-defined]
        return plugin

    def _check_signature(self, name: str, plugin: Any) -> None:
        where = f"{_place(plugin)}: {self.kind} `{name}`"
        lacking = [
            method for method in self._methods if not callable(getattr(plugin, method, None))
        ]
        if lacking:
            raise PluginError(f"{where} has no method `{lacking[0]}`; see docs/plugins.md")
        parameters = list(inspect.signature(plugin).parameters.values())
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                raise PluginError(
                    f"{where} takes `{parameter}`; name every parameter, so that a misspelt one "
                    "in a config is found"
                )
        positional = tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
        if positional != self._arguments:
            expected = ", ".join((*self._arguments, "*", "…"))
            raise PluginError(
                f"{where} has the arguments ({', '.join(positional)}); they must be ({expected}): "
                "parameters of its own come after the `*`"
            )

    def _forget_project(self) -> None:
        """Forget the plugins of an earlier project, and all errors."""
        self._plugins = {
            name: plugin
            for name, plugin in self._plugins.items()
            if not plugin.__module__.startswith(_PROJECT)
        }
        self._conflicts.clear()
        self._broken.clear()

    def _add_broken(self, place: str, problem: str) -> None:
        """Keep why a file or package could not be imported, and forget its plugins."""
        self._broken[place] = problem
        # A module whose import failed is not in `sys.modules`.
        self._plugins = {
            name: plugin
            for name, plugin in self._plugins.items()
            if plugin.__module__ in sys.modules
        }


MODELS = Registry(
    "model",
    "models",
    arguments=("input_shape", "num_classes"),
    shipped=("deepprofiler.plugins.models",),
)
CROP_GENERATORS = Registry(
    "crop generator",
    "crop_generators",
    methods=("draw", "combine", "show"),
    shipped=("deepprofiler.plugins.crop_generators",),
)
SEGMENTERS = Registry(
    "segmenter",
    "segmenters",
    arguments=("image",),
    shipped=("deepprofiler.imaging.segment",),
    shared=("min_diameter", "max_diameter", "border"),
)
NORMALIZERS = Registry(
    "normalizer",
    "normalizers",
    methods=("fit", "transform"),
    shared=("plate", "batch", "well", "count", "seed"),
    shipped=("deepprofiler.profiling",),
)
EVALUATIONS = Registry(
    "evaluation",
    "evaluations",
    methods=("compute",),
    shipped=("deepprofiler.evaluation.evaluations",),
)
KINDS = (MODELS, CROP_GENERATORS, SEGMENTERS, NORMALIZERS, EVALUATIONS)


def discover(
    project_plugins: Path | None = None, kinds: tuple[Registry, ...] = KINDS
) -> list[Path]:
    """Import installed packages' plugins and a project's own.

    A file that cannot be imported is logged as a warning, and named by the error for a plugin that
    does not exist.

    Parameters
    ----------
    project_plugins : Path, optional
        A project's ``plugins`` folder; need not exist. Plugins of an earlier project are
        forgotten, those of installed packages are imported once.
    kinds : tuple of Registry
        Kinds whose folders are imported. No code of other kinds is executed.

    Returns
    -------
    list of Path
        The project's files that were executed.
    """
    for registry in kinds:
        registry._forget_project()
        registry._import_shipped()
    for point in entry_points(group=ENTRY_POINTS):
        # Only its import tells which kinds of plugins a module registers.
        _import(point.value, point.load, kinds)
    if project_plugins is None:
        return []
    executed = []
    for registry in kinds:
        folder = project_plugins / registry.folder
        package = f"{_PROJECT}.{registry.folder}"
        _make_package(package, folder)
        for path in _files([folder]):
            if _import(str(path), partial(_execute, path, package), (registry,)):
                executed.append(path)
    return executed


def _files(folders: list[Path]) -> Iterator[Path]:
    """Paths of plugin files in a stable order; helpers begin with an underscore."""
    for folder in folders:
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith(("_", ".")):
                yield path


def _import(place: str, load: Callable[[], Any], kinds: tuple[Registry, ...]) -> bool:
    """Import a plugin that is not shipped; a broken one is a warning until it is named."""
    try:
        with plugin_code(place, _IMPORT):
            load()
    except PluginError as error:
        for registry in kinds:
            registry._add_broken(place, str(error))
        LOG.warning("%s", error)
        return False
    return True


def _make_package(name: str, folder: Path) -> None:
    """Make a package of a project's folder, so that its files can import helpers beside them.

    It replaces that of an earlier project, with all of its modules.
    """
    for module in [module for module in sys.modules if module.startswith(f"{name}.")]:
        del sys.modules[module]
    for part, places in ((_PROJECT, []), (name, [str(folder)])):
        package = ModuleType(part)
        package.__path__ = places
        package.__spec__ = ModuleSpec(part, None, is_package=True)
        sys.modules[part] = package
    # A file may be younger than the listing of its folder.
    importlib.invalidate_caches()


def _execute(path: Path, package: str) -> None:
    name = f"{package}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses and pickling look a class's module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _converted(plugin: Any, params: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Convert values to the types that a plugin's parameters are annotated with."""
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError

    function = plugin.__init__ if inspect.isclass(plugin) else plugin
    with plugin_code(plugin, "its annotations cannot be read"):
        hints = get_type_hints(function)
    values = dict(params)
    for key in params:
        if key not in hints:
            continue
        try:
            values[key] = TypeAdapter(hints[key]).validate_python(params[key])
        except PydanticSchemaGenerationError:
            continue
        except ValidationError as error:
            problems = dict.fromkeys(problem["msg"].lower() for problem in error.errors())
            raise PluginError(
                f"{where}: {key}: {' or '.join(problems)}; found {params[key]!r}"
            ) from None
    return values


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
