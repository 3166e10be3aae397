"""A folder of results as one HTML page that needs no network."""

from __future__ import annotations

from moe2opt.report.judging import Badge
from moe2opt.report.page import Report, make_report, write_report
from moe2opt.report.reading import Evidence, read_folder, read_log

__all__ = [
    "Badge",
    "Evidence",
    "Report",
    "make_report",
    "read_folder",
    "read_log",
    "write_report",
]
