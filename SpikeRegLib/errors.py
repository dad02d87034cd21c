"""The errors a caller can tell apart; each carries one clear line that names the cause and the remedy."""


class SpikeRegError(Exception):
    """A run failed for a reason that is not the input's fault (exit code 1)."""

    exit_code = 1


class InputError(SpikeRegError):
    """The input cannot be used as it is: missing file, wrong shape, not finite... (exit code 2)."""

    exit_code = 2


class Cancelled(SpikeRegError):
    """The caller asked to stop; nothing was written (exit code 130)."""

    exit_code = 130


def last_line(error: BaseException) -> str:
    """What another library's exception says in the end, without ITK's prefix, or else its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    return (lines[-1] if lines else type(error).__name__).removeprefix("sitk::ERROR: ").rstrip(".")
