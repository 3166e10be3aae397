"""What stands beside a plan: use of budgets, and baselines with gain, noise and a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from moe2opt import present
from moe2opt.view import Table, table

#: Values that differ by less, relative to the larger, are the same.
_SAME = 1e-9

_AS_GOOD = "as good here"

#: What is true of every plan where values are measured on samples.
NOISY = "the best of many noisy values is on average better in the table than in a new measurement"


def figure(value: float, unit: str, standard_error: float | None) -> str:
    """Return a figure with its unit and, where there is one, its standard error."""
    text = f"{present.number(value)} {unit}".rstrip()
    if standard_error is None:
        return text
    return f"{text} (standard error {present.number(standard_error, 2)})"


@dataclass(frozen=True, slots=True)
class Use:
    """Use of one budget; `share` is used / limit (None for a limit of zero)."""

    name: str
    used: float
    limit: float
    share: float | None

    @classmethod
    def of(cls, name: str, used: float, limit: float) -> Use:
        """Return the use with its share of the limit."""
        return cls(name, used, limit, used / limit if limit else None)

    @property
    def fault(self) -> str | None:
        """What is wrong with it in words, with the slack that canonical problems have."""
        if self.used <= self.limit * (1 + 1e-9):
            return None
        return f"{self.name}: {self.used:.6g} is more than {self.limit:.6g}"


@dataclass(frozen=True, slots=True)
class Rival:
    """A baseline beside a plan.

    Attributes
    ----------
    name
        The rule.
    plan
        What it decides, in the words of its question; empty where it finds nothing.
    value
        Its objective in the question's own sense, None where it finds nothing.
    gain
        By how much the plan is better; None where the rule finds no plan within the budgets.
    standard_error
        Of the gain; None where the tables have none.
    verdict
        What that means.
    """

    name: str
    plan: dict[str, str] | tuple[str, ...]
    value: float | None
    gain: float | None
    standard_error: float | None
    verdict: str

    @property
    def note(self) -> str | None:
        """What must be known of a plan because of it."""
        if self.verdict == _AS_GOOD:
            return f"{self.name} is as good here: the certificate is what the plan adds"
        if self.gain and self.standard_error and 0 < self.gain <= 2 * self.standard_error:
            return f"the gain over {self.name} is no larger than noise makes it"
        return None

    def __str__(self) -> str:
        figure = "" if self.value is None else f"{present.number(self.value)}, "
        return f"baseline {self.name}: {figure}{self.verdict}"


def nothing(name: str) -> Rival:
    """Return a rule that finds nothing."""
    return Rival(name, (), None, None, None, "finds no plan within the budgets")


def beside(
    name: str,
    plan: Any,
    values: tuple[float, float],
    gain: float,
    standard_error: float | None,
    broken: Sequence[str],
) -> Rival:
    """Return a baseline with its verdict.

    Parameters
    ----------
    name, plan
        The rule and what it decides.
    values
        Objective of the plan that it stands beside, and its own.
    gain, standard_error
        By how much that plan is better, and how sure this is.
    broken
        Requirements that the baseline does not meet.
    """
    own = values[1]
    if broken:
        return Rival(name, plan, own, None, None, f"breaks {'; '.join(broken)}")
    if abs(gain) <= _SAME * max(map(abs, values)):
        return Rival(name, plan, own, gain, standard_error, _AS_GOOD)
    if gain < 0:
        verdict = f"better than the plan by {present.number(-gain, 4)}: the plan is not optimal"
    else:
        verdict = f"the plan is better by {present.number(gain, 4)}"
        if standard_error is not None:
            within = "within" if gain <= 2 * standard_error else "more than"
            verdict += f", {within} two standard errors ({present.number(2 * standard_error, 2)})"
    return Rival(name, plan, own, gain, standard_error, verdict)


def table_of(rivals: Iterable[Rival], quantity: str) -> Table:
    """Return baselines as a table."""
    rows = [(rival.name, present.number(rival.value), rival.verdict) for rival in rivals]
    return table("Baselines", ("rule", quantity, "beside the plan"), rows)
