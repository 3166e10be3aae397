"""Monotone problem: increasing oracles over an integer box."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.canonical import validate
from moe2opt.canonical.base import Canonical
from moe2opt.canonical.composite import Structure, rounding_error
from moe2opt.canonical.declared import Box, corners, listed_oracles, require_interchangeable
from moe2opt.canonical.parts import structure
from moe2opt.canonical.symmetry import declared_sets, found_alike, swap_error
from moe2opt.result import FloatArray, InputError, IntArray

#: Batched oracle: ``(B, n)`` integer points to ``(B,)`` values.
Oracle = Callable[[IntArray], FloatArray]

#: Batched mixed-monotone oracle F(x, y): increasing in x, decreasing in y.
MixedOracle = Callable[[IntArray, IntArray], FloatArray]


#: A value this close to a whole number is taken for it where the objective is declared integral.
_WHOLE = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class MonotoneProblem(Canonical):
    r"""Maximise an increasing :math:`f(x)` with :math:`g_k(x) \le 0 \le h_j(x)` on an integer box.

    f, every g and every h increase in each coordinate (Tuy 2000): the g cut a normal set, the h a
    reverse normal one. Instead of f, a mixed-monotone F(x, y) may be given, increasing in x and
    decreasing in y, with f(x) = F(x, x) (Matthiesen et al., arXiv 1910.07853).

    Parameters
    ----------
    lower, upper
        ``(n,)`` integer corners of the box; labelled ones are aligned with `lower`.
    objective
        Batched oracle ``(B, n) -> (B,)``, increasing. Exclusive with `mixed_objective`.
    constraints
        Batched increasing oracles g; a point is feasible when every g(x) ≤ 0.
    reverse_constraints
        Batched increasing oracles h; a point is feasible when every h(x) ≥ 0.
    mixed_objective
        Batched oracle ``(B, n), (B, n) -> (B,)``.
    submodular
        Declares f submodular on the box, which permits the marginal bound on unit boxes.
    integral
        Declares that f takes integer values only, which lets bounds be rounded down.
    batched
        False for oracles that take one ``(n,)`` point and return a number; they are looped over.
    structure
        What the oracles are made of, where `from_parts` built them; dropped when they are replaced.
    interchangeable
        Sets of variables of one range that may swap their levels without any oracle noticing:
        declared, as monotonicity is. Those that declared parts show are found without it.

    Raises
    ------
    InputError
        For a wrong box, also one beyond that of `structure`, when an oracle returns the wrong
        shape or NaN, or when one of 64 random points shows that variables may not swap.

    Notes
    -----
    An oracle's numbers are taken as they are: what is proven is proven of the function that the
    oracle computes. It must therefore increase in its rounded values, too, as sums in a fixed
    order do.

    Examples
    --------
    >>> import moe2opt as mo
    >>> p = mo.MonotoneProblem(lower=[0, 0], upper=[3, 3], objective=lambda x: x.sum(axis=1),
    ...                        constraints=[lambda x: x[:, 0] * x[:, 1] - 3.0])
    >>> p.evaluate([3, 1]), p.is_feasible([2, 2])
    (4.0, False)
    """

    lower: IntArray
    upper: IntArray
    objective: Oracle | None = None
    constraints: Sequence[Oracle] = ()
    reverse_constraints: Sequence[Oracle] = ()
    mixed_objective: MixedOracle | None = None
    submodular: bool = False
    integral: bool = False
    batched: bool = True
    structure: Structure | None = None
    interchangeable: Sequence[Sequence[int]] = ()

    kind: str = field(default="monotone", init=False, repr=False)

    if TYPE_CHECKING:  # arrays and functions are given in many forms

        def __init__(
            self,
            lower: Any,
            upper: Any,
            objective: Callable[[IntArray], Any] | None = None,
            constraints: Sequence[Callable[[IntArray], Any]] = (),
            reverse_constraints: Sequence[Callable[[IntArray], Any]] = (),
            mixed_objective: Callable[[IntArray, IntArray], Any] | None = None,
            submodular: bool = False,
            integral: bool = False,
            batched: bool = True,
            structure: Structure | None = None,
            interchangeable: Any = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        lower, upper = corners(self.lower, self.upper)
        if (self.objective is None) == (self.mixed_objective is None):
            raise InputError("objective: give exactly one of objective and mixed_objective")
        for name in ("constraints", "reverse_constraints"):
            object.__setattr__(self, name, listed_oracles(name, getattr(self, name)))
        if not callable(self.objective or self.mixed_objective):
            raise InputError("objective: not callable")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        if (made := self.structure) is not None and made.box.excludes(lower, upper):
            raise InputError(
                "lower, upper: the box is larger than the one its parts were placed on; "
                "place them anew with from_parts"
            )
        if not self._is_made_of(made):
            object.__setattr__(self, "structure", None)
        object.__setattr__(
            self, "interchangeable", declared_sets(self.interchangeable, lower, upper)
        )
        self._probe()

    @classmethod
    def from_parts(
        cls,
        lower: Any,
        upper: Any,
        objective: Any = None,
        *,
        minimise: Any = None,
        at_most: Sequence[tuple[Any, float]] = (),
        at_least: Sequence[tuple[Any, float]] = (),
        interchangeable: Any = (),
    ) -> MonotoneProblem:
        """Return a problem made of parts whose structure the engines use.

        Parameters
        ----------
        lower, upper
            ``(n,)`` integer corners of the box.
        objective
            A part of `moe2opt.parts` to be maximised, or a list of parts to be added.
        minimise
            A part (or list) to be minimised instead; the problem's objective is its negative.
        at_most, at_least
            Pairs of a part (or list of parts) and its limit. Data that are not all integers get
            the relative slack of 1e-9 that budgets have everywhere.
        interchangeable
            Sets of variables that may swap, where oracles among the parts do not show it.

        Raises
        ------
        InputError
            For what does not fit the box, and with a counter-example for a part that is not what
            it is declared to be.

        Examples
        --------
        >>> import moe2opt as mo
        >>> series = mo.parts.product([[0.8, 0.96, 0.992], [0.9, 0.99, 0.999]])
        >>> p = mo.MonotoneProblem.from_parts([1, 1], [3, 3], series,
        ...                                   at_most=[(mo.parts.linear([3, 2]), 11)])
        >>> round(p.evaluate([2, 2]), 12), p.is_feasible([3, 2])
        (0.9504, False)
        """
        low, high = corners(lower, upper)
        made = structure(Box(low, high), objective, minimise, at_most, at_least)
        return cls.of_structure(low, high, made, interchangeable)

    @classmethod
    def of_structure(
        cls, lower: IntArray, upper: IntArray, made: Structure, interchangeable: Any = ()
    ) -> MonotoneProblem:
        """Return the problem of parts that are placed on a box."""
        return cls(
            lower,
            upper,
            objective=None if made.is_mixed else made.objective,
            constraints=made.at_most,
            reverse_constraints=made.at_least,
            mixed_objective=made.mixed if made.is_mixed else None,
            submodular=made.objective.is_submodular and not made.is_mixed,
            integral=made.objective.is_integral,
            structure=made,
            interchangeable=interchangeable,
        )

    def _is_made_of(self, made: Structure | None) -> bool:
        """Tell whether the oracles are those of a structure, which `replace` may have changed."""
        if made is None:
            return True
        objective = self.mixed_objective if made.is_mixed else self.objective
        return (
            objective == (made.mixed if made.is_mixed else made.objective)
            and self.constraints == made.at_most
            and self.reverse_constraints == made.at_least
        )

    @property
    def size(self) -> int:
        """Number of variables n."""
        return len(self.lower)

    @property
    def is_integral(self) -> bool:
        """Whether the objective was declared to take integer values only."""
        return self.integral

    @cached_property
    def _rounding(self) -> float:
        made = self.structure
        return 0.0 if made is None else rounding_error(made.objective, made.box)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the box and of the numbers of all parts; code has no fingerprint."""
        arrays = self.structure.arrays() if self.structure is not None else []
        sets = [np.array(members) for members in self.interchangeable]
        return validate.fingerprint(self.lower, self.upper, *arrays, *sets)

    @cached_property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """Sets of interchangeable variables, declared ones and those that parts show."""
        made, declared = self.structure, tuple(map(tuple, self.interchangeable))
        shown = () if made is None else found_alike(made, self.lower, self.upper)
        known = set().union(*declared)
        return (*declared, *(members for members in shown if known.isdisjoint(members)))

    @cached_property
    def swap_error(self) -> float:
        """How far rounding may move the objective when interchangeable variables swap."""
        made = self.structure
        error = 0.0 if made is None else swap_error(made.objective, made.box)
        return error if self.orders and math.isfinite(error) else 0.0

    def vector(self, x: Any) -> IntArray:
        """Return `x` as a checked integer point of the box."""
        vector = validate.integer_vector("x", x)
        validate.shaped("x", vector, (self.size,), "(n,)")
        outside = (vector < self.lower) | (vector > self.upper)
        if outside.any():
            i = int(np.argmax(outside))
            raise InputError(
                f"x[{i}] is {vector[i]}; the box allows {self.lower[i]}..{self.upper[i]}"
            )
        return vector

    def upper_values(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return upper bounds of the objective over boxes.

        Parameters
        ----------
        upper, lower
            ``(B, n)`` corners. A plain objective ignores `lower`.
        """
        if self.mixed_objective is not None:
            return self._call("mixed_objective", self.mixed_objective, upper, lower)
        assert self.objective is not None
        return self._call("objective", self.objective, upper)

    def objective_values(self, points: IntArray) -> FloatArray:
        """Return the objective at ``(B, n)`` points."""
        return self.upper_values(points, points)

    def bounds_of(self, values: FloatArray) -> FloatArray:
        """Return what oracle values at upper corners say of the objective below them.

        The values themselves, or where the objective is declared integral the whole numbers that
        `evaluate` can return at most.
        """
        if not self.integral:
            return values
        whole = np.round(values)
        with np.errstate(invalid="ignore"):
            return np.where(np.abs(values - whole) <= _WHOLE, whole, np.floor(values))

    def marginal_bound(self, lower: IntArray, upper: IntArray) -> float:
        """Return value at the lower corner of a unit box plus all single gains, rounded up.

        It bounds a submodular objective over the box. Values may be rounded sums, so each is taken
        one unit in its last place off, or as far as parts say that it may be, unless it is a whole
        number of exact size.
        """
        axes = np.flatnonzero(upper > lower)
        points = np.repeat(lower[None, :], len(axes) + 1, axis=0)
        points[np.arange(1, len(points)), axes] = upper[axes]
        values = self.bounds_of(self.objective_values(points))
        if not np.isfinite(values).all():
            return math.inf
        base, above = float(values[0]), values[1:]
        if not len(above):
            return base
        if not self.integral or np.abs(values).max() > validate.BIGGEST_EXACT:
            base = math.nextafter(base - self._rounding, -math.inf)
            above = np.nextafter(above + self._rounding, math.inf)
        return validate.exact_sum([*above, *[-base] * (len(above) - 1)])

    def constraint_values(self, points: IntArray) -> FloatArray:
        """Return g at ``(B, n)`` points, shape ``(B, K)``; feasible where ≤ 0."""
        return self._table("constraints", self.constraints, points)

    def reverse_values(self, points: IntArray) -> FloatArray:
        """Return h at ``(B, n)`` points, shape ``(B, H)``; feasible where ≥ 0."""
        return self._table("reverse_constraints", self.reverse_constraints, points)

    def constraint_value(self, k: int, points: IntArray) -> FloatArray:
        """Return one g at ``(B, n)`` points."""
        return self._call(f"constraints[{k}]", self.constraints[k], points)

    def reverse_value(self, k: int, points: IntArray) -> FloatArray:
        """Return one h at ``(B, n)`` points."""
        return self._call(f"reverse_constraints[{k}]", self.reverse_constraints[k], points)

    def evaluate(self, x: Any) -> float:
        """Return the objective at the point `x`."""
        value = float(self.objective_values(self.vector(x)[None, :])[0])
        if not self.integral or not math.isfinite(value):
            return value
        if abs(value - round(value)) > _WHOLE:
            raise InputError(f"objective was declared integral but returned {value:.12g}")
        return float(round(value))

    def is_feasible(self, x: Any) -> bool:
        """Tell whether `x` satisfies every constraint."""
        point = self.vector(x)[None, :]
        return bool(
            (self.constraint_values(point) <= 0).all() and (self.reverse_values(point) >= 0).all()
        )

    def as_monotone(self) -> MonotoneProblem:
        """Return the problem itself."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Raise: oracles are code, and code is not serialised."""
        raise InputError("a MonotoneProblem holds oracles (code) and cannot be written to a file")

    def _table(self, name: str, oracles: Sequence[Oracle], points: IntArray) -> FloatArray:
        columns = [self._call(f"{name}[{k}]", oracle, points) for k, oracle in enumerate(oracles)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(points), 0))

    def _call(self, name: str, oracle: Callable[..., Any], *points: IntArray) -> FloatArray:
        if not len(points[0]):
            return np.zeros(0)
        if self.batched:
            raw = oracle(*points)
        else:
            raw = [oracle(*(p[b] for p in points)) for b in range(len(points[0]))]
        try:
            values = np.asarray(raw, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} returned what are no numbers: {error}") from error
        if values.shape != (len(points[0]),):
            raise InputError(
                f"{name} returned shape {values.shape} for {len(points[0])} points of shape "
                f"{points[0].shape}; a batched oracle returns one value per row"
            )
        if np.isnan(values).any():
            b = int(np.argmax(np.isnan(values)))
            raise InputError(f"{name} returned nan at x = {points[0][b].tolist()}")
        return values

    def _probe(self) -> None:
        corners = np.stack([self.lower, self.upper, self.lower])
        values = self.objective_values(corners)
        if (values == -math.inf).any():
            x = corners[int(np.argmax(values == -math.inf))].tolist()
            raise InputError(
                f"objective is -inf at x = {x}; a point with such a value is no solution, so let "
                "the box begin higher, or return a finite number that is low enough"
            )
        self.constraint_values(corners)
        self.reverse_values(corners)
        if self.interchangeable:
            box = Box(self.lower, self.upper)
            for name, oracle in self.named_oracles():
                require_interchangeable(name, oracle, self.interchangeable, box)

    def named_oracles(self) -> Iterator[tuple[str, Oracle]]:
        """Yield objective and constraints with the names that messages give them."""
        yield "objective", self.objective_values
        for k in range(len(self.constraints)):
            yield f"constraints[{k}]", partial(self.constraint_value, k)
        for k in range(len(self.reverse_constraints)):
            yield f"reverse_constraints[{k}]", partial(self.reverse_value, k)
