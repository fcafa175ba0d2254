"""Which tests share a process when several work side by side (``make test``), and what is said of them meanwhile."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Folders whose tests share something that takes long to start: ranks, a cluster.
TOGETHER = ("distributed", "slurm")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together, and so do those of some folders."""
    for item in items:
        place = item.path.relative_to(HERE)
        group = place.parts[0] if place.parts[0] in TOGETHER else str(place)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Where tests are collected, not in each of the processes that run them."""
    if not hasattr(config, "workerinput") and (terminal := config.pluginmanager.get_plugin("terminalreporter")):
        config.pluginmanager.register(FailuresAtOnce(terminal))


class FailuresAtOnce:
    """A line for each failure when it happens: a run that a time limit ends has no summary."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self.terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of set-up, call and tear-down."""
        if report.failed:
            reason = next((line for line in report.longreprtext.splitlines() if line.startswith("E ")), "")
            self.terminal.write_line(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.0f} s) {reason}")
