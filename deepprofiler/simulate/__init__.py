"""A screen with known mechanisms and known nuisance, in a project's layout.

:func:`simulate` writes it; :class:`Screen` says how large it is and what is wrong with it, with
``Screen()`` after BBBC021, ``Screen.demo()``, ``Screen.tiny()`` and ``Screen.cell_painting()``.
"""

from deepprofiler.simulate.design import Nuisance, Screen
from deepprofiler.simulate.phenotype import MECHANISMS, Phenotype
from deepprofiler.simulate.write import Summary, simulate

__all__ = ["MECHANISMS", "Nuisance", "Phenotype", "Screen", "Summary", "simulate"]
