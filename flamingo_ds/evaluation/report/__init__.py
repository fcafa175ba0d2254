"""What an evaluation leaves behind: JSON, a table, a plot, a page of samples; several side by side."""

from .json_file import read_report, write_json
from .plot import require_matplotlib
from .table import print_table
from .write import write_report

__all__ = ["print_table", "read_report", "require_matplotlib", "write_json", "write_report"]
