"""Packaging: ``plugins/`` beside ``deepprofiler/`` is installed as ``deepprofiler.plugins``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "deepprofiler" / "__init__.py").read_text())

setup(
    # The name `deepprofiler` belongs to the original in the package index.
    name="deepprofiler-keras",
    version=VERSION[1],
    description="Weakly supervised learning of single-cell features from plate images",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["deepprofiler", "deepprofiler.*"]),
        "deepprofiler.plugins",
        "deepprofiler.plugins.crop_generators",
        "deepprofiler.plugins.models",
    ],
    package_dir={"deepprofiler.plugins": "plugins"},
    package_data={"deepprofiler.report": ["templates/*"], "deepprofiler": ["py.typed"]},
    entry_points={"console_scripts": ["deepprofiler = deepprofiler.cli:main"]},
    # Why each: docs/design.md, "Dependencies".
    install_requires=[
        "tensorflow>=2.20",
        "keras>=3.10",
        "numpy>=2.0",
        "pandas>=2.3",
        "scipy>=1.14",
        "scikit-image>=0.25",
        "scikit-learn>=1.6",
        "h5py>=3.11",
        "pyyaml>=6",
        "tifffile>=2025.1.10",
        "imagecodecs>=2025.3.30",
        "pydantic>=2.10",
        "click>=8.1",
        "rich>=13.9",
        "pyarrow>=18",
        "tensorboard>=2.20",
        "matplotlib>=3.10",
        "jinja2>=3.1",
    ],
    extras_require={
        # 0.12.6 and older do not know pandas 3, and do not say so.
        "anndata": ["anndata>=0.12.7"],
        "classical": ["cp-measure>=0.3"],
        "copairs": ["copairs>=0.5"],
        "harmony": ["harmonypy>=2.1"],
        "track": ["comet_ml>=3.47", "mlflow>=2.19", "wandb>=0.19"],
        "umap": ["umap-learn>=0.5.8"],
        "test": [
            "copairs>=0.5",
            "cp-measure>=0.3",
            "harmonypy>=2.1",
            "mypy>=1.15",
            "numpydoc>=1.8",
            "pandas-stubs",
            "pre-commit>=4",
            "pycytominer>=1.7",
            "pytest>=8.3",
            "pytest-xdist>=3.6",
            "ruff>=0.11",
            "scipy-stubs",
            "setuptools>=77",
            "types-PyYAML",
        ],
    },
)
