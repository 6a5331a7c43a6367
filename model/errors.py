"""The exception tree of the project.

    OsaError                  every error that the project raises on purpose
    ├── ConfigError           an invalid setting or combination of settings
    ├── CheckpointError       a checkpoint that is missing, damaged or of another shape
    │   └── UnsupportedModelError   a model of another library that our encoder cannot run
    ├── DownloadError         a model of the hub that cannot be had, or that changed on disk
    ├── SpillError            states of a long text that cannot be kept on disk
    └── InputError            tensors, ids or texts that do not fit the model

``osa.export`` and ``osa.service`` add their own branches. ``code`` is a stable, machine-readable
name; the message says what was given and what is allowed.
"""


def first_line(error: BaseException) -> str:
    """What an error of another library says, in a line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class OsaError(Exception):
    """Base of every deliberate error.

    Attributes:
        code: Stable name of the kind of error, for logs and metrics.
    """

    code: str = "osa"


class ConfigError(OsaError, ValueError):
    """An invalid setting or combination of settings."""

    code = "config"


class CheckpointError(OsaError):
    """A checkpoint directory that is missing, damaged, or does not fit its configuration."""

    code = "checkpoint"


class UnsupportedModelError(CheckpointError):
    """A model of another library whose architecture our encoder does not have."""

    code = "unsupported_model"


class DownloadError(OsaError):
    """A model of the hub that cannot be downloaded, or whose files changed afterwards."""

    code = "download"


class SpillError(OsaError):
    """States of a long text cannot be written to disk, or read back."""

    code = "spill"


class InputError(OsaError, ValueError):
    """Tensors, token ids or texts that do not fit the model."""

    code = "input"
