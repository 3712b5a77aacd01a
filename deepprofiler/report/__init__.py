"""The report: figures, tables and one HTML page, made of values. No TensorFlow.

:class:`ReportInputs` holds all that a report is made of, and :func:`write_page` writes it.
"""

from deepprofiler.report.report_inputs import CellPictures, PlateIllumination, ReportInputs
from deepprofiler.report.sections import write_page

__all__ = ["CellPictures", "PlateIllumination", "ReportInputs", "write_page"]
