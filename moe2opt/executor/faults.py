"""What can go wrong before and while a plan runs, in one line for the user."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from moe2opt.result import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def reason(error: OSError) -> str:
    """Return why the system refused, in words."""
    if error.errno in _FULL:
        return "the disk is full or over its quota"
    return error.strerror or str(error) or type(error).__name__


def require_torch() -> None:
    """Raise `InputError` when torch or safetensors is not installed."""
    for name in ("safetensors", "torch"):
        if find_spec(name) is None:
            raise InputError(
                f"running a model needs torch and safetensors ({name} is missing): "
                "pip install 'moe2opt[torch]'"
            )


@contextmanager
def explained(what: str, where: Path | str | None = None) -> Iterator[None]:
    """Turn what the system, the allocator or a device throws into an `InputError`.

    Parameters
    ----------
    what
        What is being done, in words: "cannot write the experts".
    where
        File or folder that is named.
    """
    place = "" if where is None else f" to {where}"
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{what}{place}: {reason(error)}") from error
    except MemoryError as error:
        raise InputError(f"{what}: there is not enough memory") from error
    except RuntimeError as error:  # torch's allocator, a driver
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        raise InputError(f"{what}: {first}") from error
