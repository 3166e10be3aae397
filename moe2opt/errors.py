"""Errors that moe2opt raises on purpose."""

from __future__ import annotations

from moe2opt.text import shown


class MoeOptError(Exception):
    """Base of every error that moe2opt raises on purpose; its message can be shown as it is."""

    def __str__(self) -> str:
        return shown(super().__str__(), lines=True)


class InputError(MoeOptError, ValueError):
    """The input is wrong; the message names the array, key or position at fault."""


class CertificationError(MoeOptError):
    """A result or its certificate was rejected by the checker."""


class NoPlanError(MoeOptError):
    """There is no plan to go on with: none keeps the budgets, or none was found.

    Attributes
    ----------
    proven
        Whether none exists.
    """

    def __init__(self, message: str, *, proven: bool = True) -> None:
        super().__init__(message)
        self.proven = proven


#: What content of another kind than expected raises where it is taken apart.
DAMAGE = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
