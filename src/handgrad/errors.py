"""The errors that a user can mend. Each message is one line that names what is wrong and where."""


class HandgradError(Exception):
    """Input that cannot be used: a file, a field, an option, a text. The command line ends with status 2."""


class ConfigError(HandgradError):
    """A configuration that is wrong in itself."""


class WeightsError(HandgradError):
    """Weights that cannot be read, or do not fit their configuration."""


class TextError(HandgradError):
    """Text that cannot be read, or that a tokenizer cannot express."""
