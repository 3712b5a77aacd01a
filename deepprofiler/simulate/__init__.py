"""Simulate a screen with known mechanisms and known nuisance.

:func:`simulate` writes the images and tables of a screen to the paths in :class:`ScreenPaths`.
:class:`ScreenDesign` says how large the screen is and what is wrong with it: ``ScreenDesign()``
resembles BBBC021; ``ScreenDesign.demo()``, ``ScreenDesign.tiny()`` and
``ScreenDesign.cell_painting()`` are variants.
"""

from deepprofiler.simulate.design import Nuisance, ScreenDesign
from deepprofiler.simulate.phenotype import MECHANISMS, Phenotype
from deepprofiler.simulate.write import ScreenPaths, Summary, simulate

__all__ = [
    "MECHANISMS",
    "Nuisance",
    "Phenotype",
    "ScreenDesign",
    "ScreenPaths",
    "Summary",
    "simulate",
]
