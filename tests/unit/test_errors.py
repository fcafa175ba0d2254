from flamingo_ds.errors import (
    EXIT_BAD_INPUT,
    EXIT_BAD_NODE,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_HALTED,
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    ConfigError,
)


def test_the_text_says_key_value_and_what_was_expected():
    error = ConfigError("train.max_steps", "many", "an integer")
    assert str(error) == "train.max_steps = 'many': expected an integer"
    assert isinstance(error, ValueError)


def test_exit_codes_are_what_submit_scripts_rely_on():
    assert (EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_STOPPED) == (0, 1, 2, 85)
    assert (EXIT_HALTED, EXIT_BAD_NODE, EXIT_INTERRUPTED) == (86, 87, 130)
