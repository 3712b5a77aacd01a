"""The errors that a user can mend."""


class DeepProfilerError(Exception):
    """Base of every error whose remedy lies with the user.

    The command line prints its message without a traceback and exits with code 2. Any other
    exception is a bug and keeps its traceback.
    """


class ConfigError(DeepProfilerError):
    """The configuration, or an option of the command line, cannot be used."""


class DataError(DeepProfilerError):
    """An index, image, location, weight or feature file cannot be used."""


class PluginError(DeepProfilerError):
    """A model or crop generator is unknown, broken or does not fit the others."""
