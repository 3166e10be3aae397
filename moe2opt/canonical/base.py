"""What the three canonical problems share as Python objects."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from moe2opt.content import Content


class Canonical(Content):
    """Base of the problems: equal by content, copied by their constructor.

    Two problems are equal when their arrays are; functions of a `MonotoneProblem` are equal when
    they are the same function. A copy, and what pickle brings back, is validated and read-only.
    """

    kind: str

    def __hash__(self) -> int:
        ends = getattr(self, "budgets", getattr(self, "upper", None))
        return hash((self.kind, *np.asarray(ends).tolist()))

    def __reduce__(self) -> tuple[Any, ...]:
        parts: Any = self
        return type(self), tuple(getattr(self, f.name) for f in fields(parts) if f.init)
