"""The report: figures, tables and one HTML page, made of values. No TensorFlow.

:class:`~deepprofiler.report.report_inputs.ReportInputs` holds all that a report is made of, and
:func:`~deepprofiler.report.sections.write_page` writes it.
"""
