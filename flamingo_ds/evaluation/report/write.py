"""All files of one report."""

from pathlib import Path

from ...config import ConfigError
from ..results import Report
from .json_file import write_json
from .plot import draw_scores


def write_report(report: Report, json: Path, folder: Path | None) -> None:
    """The JSON file first, so that nothing is lost; then ``scores.png`` and ``samples.html`` in the folder.

    Args:
        report: of one model.
        json: file for everything.
        folder: for the plot and the page; None: neither.

    Raises:
        ConfigError: a place that cannot be written to, or matplotlib is not installed.
    """
    write_json(report, json)
    if folder is None:
        return
    from .page import write_page  # reading pictures and videos brings torch with it, which tables do without

    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_scores({Path(report.model).name or report.model: report}, folder / "scores.png")
        write_page(report, folder / "scores.png", folder / "samples.html")
    except OSError as error:
        raise ConfigError("report folder", str(folder), f"a folder that can be written to: {error.strerror}") from error
