"""The one exception for a user's mistake, and the exit codes."""

from typing import Any

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 85  # stopped on a signal with a complete checkpoint: run the same command with --resume
EXIT_HALTED = 86  # as people asked by RUN_DIR/stop, with a complete checkpoint: do not run it again
EXIT_BAD_NODE = 87  # a preflight named nodes that are unfit
EXIT_INTERRUPTED = 130  # Ctrl-C before training began; by the same rule SIGTERM then makes it 143


class ConfigError(ValueError):
    """A wrong configuration or input; its text is the one line that the user sees.

    Args:
        key: dotted name of what is wrong.
        value: what was given.
        expected: what would be right.
    """

    def __init__(self, key: str, value: Any, expected: str) -> None:
        self.key, self.value, self.expected = key, value, expected
        super().__init__(f"{key} = {value!r}: expected {expected}")
