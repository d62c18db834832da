"""The report: one HTML page that holds all that was found, and explains it."""

from versa.report.page import write_report

__all__ = ["write_report"]
