"""What the three canonical problems share as Python objects."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from moe2opt.content import Content


class Canonical(Content):
    """Base of the problems: equal by content, hashed by fingerprint, copied by their constructor.

    Two problems are equal when their arrays are; functions of a `MonotoneProblem` are equal when
    they are the same function. A copy, and what pickle brings back, is validated and read-only.
    """

    fingerprint: Any

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        parts: Any = self
        return type(self), tuple(getattr(self, f.name) for f in fields(parts) if f.init)
