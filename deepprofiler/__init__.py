"""Image-based profiling of cells with deep learning.

Importing this package is light: TensorFlow is only loaded by what trains or runs a network.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

__version__ = "0.1.0"


def _adopt_neighbouring_plugins() -> None:
    """Register a checkout's top-level ``plugins`` folder as ``deepprofiler.plugins``.

    A wheel holds it as an ordinary subpackage. In a checkout, installed in editable mode or not
    at all, the folder lies beside this package, where the import system does not look for it.
    """
    here = Path(__file__).resolve().parent
    folder = here.parent / "plugins"
    if (here / "plugins").is_dir() or not (folder / "__init__.py").is_file():
        return
    name = f"{__name__}.plugins"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    globals()["plugins"] = module


_adopt_neighbouring_plugins()
