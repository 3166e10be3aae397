"""Dataclasses from what JSON holds of them."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from moe2opt.errors import InputError

_Kind = TypeVar("_Kind")


def rebuilt(kind: type[_Kind], data: Any, what: str) -> _Kind:
    """Return a dataclass rebuilt from what ``dataclasses.asdict`` made of it.

    Raises
    ------
    InputError
        ``not a WHAT: key: problem`` when the content is none.
    """
    try:
        found: _Kind = _adapter(cast("Any", kind)).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "plan"
        raise InputError(f"not a {what}: {where}: {first['msg']}") from error
    return found


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
