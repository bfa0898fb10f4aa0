"""The errors that a user can mend. Each message is one line that names what is wrong and where."""


class HandgradError(Exception):
    """Input that cannot be used: a file, a field, an option, a text."""

    exit_status = 2


class ConfigError(HandgradError):
    """A configuration that is wrong in itself."""


class WeightsError(HandgradError):
    """Weights that cannot be read, or do not fit their configuration."""


class TextError(HandgradError):
    """A text that is too short, or that a tokenizer cannot express."""


class TrainingError(HandgradError):
    """A run that cannot go on."""

    exit_status = 1


class DamagedError(HandgradError):
    """A file that is not what was written, by its checksum."""
