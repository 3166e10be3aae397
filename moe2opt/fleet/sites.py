"""Sites: a problem, the row that is shared, and a weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt import library
from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.config import LoadedInstance, load
from moe2opt.content import Content
from moe2opt.fleet.sections import Between, FleetFile, SiteKind, Vary
from moe2opt.present import PLAIN, Measure, measure_of
from moe2opt.result import FloatArray, InputError
from moe2opt.schema import read_file, validate
from moe2opt.source import source_of

#: Problems that a site may have.
SiteProblem = FacilityProblem | MultipleChoiceProblem


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Site(Content):
    """One site.

    Attributes
    ----------
    name
        Kind and number.
    problem
        Its own problem; all budgets but the shared one hold as they are, the shared one as a
        limit of the site.
    row
        Index of the shared budget row.
    rate
        Weight in the fleet's objective and in the shared budget.
    """

    name: str
    problem: SiteProblem
    row: int
    rate: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fleet(Content):
    """Sites under one shared budget.

    Attributes
    ----------
    name, row
        Names of the fleet and of the shared budget.
    limit
        Sum over sites of rate times use that is allowed.
    sites
        The sites.
    caveats
        What must be known to read the figures.
    measure
        Sense and unit of the objective: the sum over sites of rate times that of the site.
    """

    name: str
    row: str
    limit: float
    sites: tuple[Site, ...]
    caveats: tuple[str, ...] = ()
    measure: Measure = PLAIN

    def __post_init__(self) -> None:
        if not self.sites:
            raise InputError("a fleet needs at least one site")
        if not math.isfinite(self.limit):
            raise InputError(f"fleet {self.name}: the limit {self.limit} must be finite")
        for site in self.sites:
            if not hasattr(site.problem, "budgets"):
                kind = type(site.problem).__name__
                raise InputError(f"site {site.name}: its problem ({kind}) has no budget rows")
            if not 0 <= site.row < len(site.problem.budgets):
                raise InputError(f"site {site.name}: there is no budget row {site.row}")
            if not 0 < site.rate < math.inf:
                raise InputError(f"site {site.name}: the rate {site.rate} must be positive")

    @property
    def rates(self) -> FloatArray:
        """``(S,)`` rates of the sites."""
        return np.array([site.rate for site in self.sites])


def load_fleet(path: str | Path, *, allow_outside: bool = False) -> Fleet:
    """Read a fleet from a YAML file.

    Raises
    ------
    InputError
        With every fault of the file and its place, or for a kind of site without the shared row.
    """
    file = Path(path)
    document = read_file(file)
    if not {"fleet", "sites"} & document.data.keys():
        raise InputError(f"{file}: is no fleet: it has neither `fleet` nor `sites`")
    parsed: FleetFile = validate(document, FleetFile)
    rng = np.random.default_rng(parsed.seed)
    sites: list[Site] = []
    caveats: dict[str, None] = {}
    measures: set[Measure] = set()
    for kind in parsed.sites:
        target = _target(kind, file.resolve().parent, allow_outside)
        rows = target.row_names()
        if parsed.row not in rows:
            raise InputError(
                f"{file}: sites.{kind.name}: no budget row '{parsed.row}' ({', '.join(rows)})"
            )
        problem = target.problem()
        if not isinstance(problem, FacilityProblem | MultipleChoiceProblem):
            raise InputError(f"{file}: sites.{kind.name}: its problem has no budget rows")
        measures.add(measure_of(target))
        sites += _copies(kind, problem, rows.index(parsed.row), rng)
        caveats |= dict.fromkeys(getattr(target, "caveats", ()))
        if any((kind.vary.use, kind.vary.quality, kind.vary.limits)):
            caveats[f"{kind.name}: the differences between its sites are synthetic"] = None
    if len(measures) > 1:
        units = ", ".join(sorted(f"{m.sense} {m.unit or m.quantity}" for m in measures))
        raise InputError(f"{file}: sites: their objectives cannot be added up ({units})")
    sum_of = _summed(measures.pop())
    return Fleet(parsed.name, parsed.row, parsed.limit, tuple(sites), tuple(caveats), sum_of)


def _summed(measure: Measure) -> Measure:
    unit = f"{measure.unit} x rate" if measure.unit else ""
    return Measure(measure.sense, unit, f"sum over sites of {measure.quantity} x rate")


def _target(kind: SiteKind, folder: Path, allow_outside: bool) -> LoadedInstance:
    beside = folder / kind.config
    path = beside if beside.is_file() else library.find(kind.config)
    target = load(path, kind.scenario, kind.overrides or None, allow_outside=allow_outside)
    if source_of(target) is None:
        raise InputError(f"sites.{kind.name}: {kind.config} is no configuration")
    return target


def _copies(
    kind: SiteKind, problem: SiteProblem, row: int, rng: np.random.Generator
) -> Iterator[Site]:
    for k in range(kind.count):
        rate = kind.rate
        drawn = rng.uniform(rate.low, rate.high) if isinstance(rate, Between) else rate
        yield Site(f"{kind.name}-{k}", varied(problem, row, kind.vary, rng), row, float(drawn))


def varied(problem: SiteProblem, row: int, vary: Vary, rng: np.random.Generator) -> SiteProblem:
    """Return the problem with figures drawn around its own; itself when nothing varies."""
    if not any((vary.use, vary.quality, vary.limits)):
        return problem
    use = _factors(rng, vary.use, problem.costs.shape[1])
    limits = problem.budgets * _factors(rng, vary.limits, len(problem.budgets))
    costs = problem.costs.copy()
    costs[row] *= use
    if isinstance(problem, FacilityProblem):
        quality = np.minimum(_factors(rng, vary.quality, problem.size) * problem.values, 1e300)
        return replace(problem, values=quality, costs=costs, budgets=limits)
    worth = problem.flat_values * _factors(rng, vary.quality, len(problem.flat_values))
    cuts = problem.offsets[1:-1]
    usage: Any = np.split(costs.T, cuts)
    return MultipleChoiceProblem(np.split(worth, cuts), usage, limits)


def _factors(rng: np.random.Generator, share: float, count: int) -> FloatArray:
    return rng.uniform(1.0 - share, 1.0 + share, count)
