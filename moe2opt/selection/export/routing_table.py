"""What a router must know about a plan: experts, categories, worth, costs, deadlines, prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.errors import DAMAGE
from moe2opt.files import read_json
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.selection.case import Case
from moe2opt.selection.gated import GatedCase
from moe2opt.selection.plan.prompts import category_table
from moe2opt.selection.routing.market import limited, market_of
from moe2opt.selection.routing.prices import price
from moe2opt.text import fault_of_name

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Served:
    """One deployed expert.

    Attributes
    ----------
    name
        Its name towards the proxy, made of letters, digits, dots, dashes and underscores.
    llm, precision, server
        What is deployed where.
    factor
        Share of the accuracy that the precision keeps (estimated).
    """

    name: str
    llm: str
    precision: str
    server: str
    factor: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class RoutingTable:
    """Everything about a plan that routing needs besides the gate.

    Attributes
    ----------
    instance
        Its name.
    experts
        The S deployed experts.
    categories, shares
        The K categories, and ``(K,)`` shares of the prompts in them.
    worth
        ``(K, S)`` expected score in each category, for prompts without a vector.
    energy_j, delay_s
        ``(K, S)`` expected joules and seconds of an answer.
    in_time
        ``(K, S)`` whether the expert meets the deadline of the category.
    price_per_j, price_per_s
        Score that a joule and a second are worth; 0 where routing has no budget.
    """

    instance: str
    experts: tuple[Served, ...]
    categories: tuple[str, ...]
    shares: FloatArray
    worth: FloatArray
    energy_j: FloatArray
    delay_s: FloatArray
    in_time: BoolArray
    price_per_j: float = 0.0
    price_per_s: float = 0.0

    @property
    def charge(self) -> FloatArray:
        """``(K, S)`` priced costs of an answer."""
        return self.price_per_j * self.energy_j + self.price_per_s * self.delay_s

    @property
    def factors(self) -> FloatArray:
        """``(S,)`` share of the accuracy that each precision keeps."""
        return np.array([expert.factor for expert in self.experts])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        experts = [{name: getattr(e, name) for name in Served.__slots__} for e in self.experts]
        head = {"format": _FORMAT, "instance": self.instance, "experts": experts}
        prices = {"price_per_j": self.price_per_j, "price_per_s": self.price_per_s}
        return {**head, "categories": list(self.categories), **prices, **arrays}

    @classmethod
    def from_dict(cls, data: Any) -> RoutingTable:
        """Rebuild from `to_dict`.

        Raises
        ------
        InputError
            When the content is no routing table.
        """
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise InputError(f"not a routing table of format {_FORMAT}")
        try:
            experts = tuple(Served(**expert) for expert in data["experts"])
            arrays = {name: np.asarray(data[name], dtype=np.float64) for name in _ARRAYS}
            table = cls(
                instance=str(data["instance"]),
                experts=experts,
                categories=tuple(map(str, data["categories"])),
                **{**arrays, "in_time": arrays["in_time"] > 0},  # type: ignore[arg-type]
                price_per_j=float(data["price_per_j"]),
                price_per_s=float(data["price_per_s"]),
            )
        except DAMAGE as error:
            raise InputError(f"not a routing table: {error}") from error
        _check_names(table)
        _check_shapes(table)
        return table


_ARRAYS = ("shares", "worth", "energy_j", "delay_s", "in_time")


def read_table(path: str | Path) -> RoutingTable:
    """Read a routing table.

    Raises
    ------
    InputError
        When the file cannot be read or is no routing table.
    """
    content = read_json(path)
    try:
        return RoutingTable.from_dict(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_names(table: RoutingTable) -> None:
    named = [("instance", table.instance or "-")]
    named += [(f"categories.{k}", name) for k, name in enumerate(table.categories)]
    for k, expert in enumerate(table.experts):
        keys = ("name", "llm", "precision", "server")
        named += [(f"experts.{k}.{key}", getattr(expert, key)) for key in keys]
    for where, name in named:
        fault = fault_of_name(name) if isinstance(name, str) else "is no name"
        if fault is not None:
            raise InputError(f"routing table: {where}: {fault}")


def _check_shapes(table: RoutingTable) -> None:
    count, width = len(table.categories), len(table.experts)
    if not width or not count:
        raise InputError("routing table: no experts or no categories")
    for name in _ARRAYS:
        wanted = (count,) if name == "shares" else (count, width)
        array = getattr(table, name)
        if array.shape != wanted or not np.isfinite(array).all():
            raise InputError(f"routing table: {name} must be {wanted} finite numbers")


def table_of(case: Case, chosen: IntArray, names: Sequence[str]) -> RoutingTable:
    """Return the routing table of some experts of a case.

    Parameters
    ----------
    case
        With a gate or with cluster tables.
    chosen
        Indices of the deployed experts.
    names
        Their names towards the proxy.

    Raises
    ------
    InputError
        When routing has budgets and no deployed expert is in time for some prompt.
    """
    if isinstance(case, GatedCase):
        category = case.outcomes.category_of[case.members()]
        counts = np.bincount(category, minlength=len(case.categories)).astype(np.float64)
        prices, shares = _prices(case, chosen), counts / counts.sum()
        worth = np.array(category_table(case, chosen)["worth"])
    else:
        prices, (shares, worth) = np.zeros(2), _by_cluster(case, chosen)
    picked = [case.experts[i] for i in chosen]
    return RoutingTable(
        instance=case.name,
        experts=tuple(
            Served(name, e.llm, e.precision, e.server, e.quality_factor)
            for name, e in zip(names, picked, strict=True)
        ),
        categories=case.categories,
        shares=shares,
        worth=worth,
        energy_j=case.energy_j[:, chosen],
        delay_s=case.delay_s[:, chosen],
        in_time=~case.barred[:, chosen],
        price_per_j=float(prices[0]),
        price_per_s=float(prices[1]),
    )


def _prices(case: GatedCase, chosen: IntArray) -> FloatArray:
    """Return the prices of a joule and of a second that the budgets under `routing` ask for."""
    budgets, prices = case.config.routing, np.zeros(2)
    given = (budgets.energy_j_per_prompt, budgets.delay_s)
    limits = np.array([np.inf if limit is None else limit for limit in given])
    bound = np.isfinite(limits)
    if bound.any():
        market = limited(market_of(case, case.members()).restricted_to(chosen), limits)
        if not market.allowed.any(axis=1).all():
            raise InputError("routing: no deployed expert is in time for some category")
        prices[bound] = price(market).prices
    return prices


def _by_cluster(case: Case, chosen: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return shares and mean accuracies of the categories over their clusters."""
    weights, category = case.tables.weights, case.category_of
    accuracy = case.tables.accuracy[:, case.model_of[chosen]] * case.factors[chosen]
    shares: FloatArray = np.zeros(len(case.categories))
    np.add.at(shares, category, weights)
    totals = np.zeros((len(shares), len(chosen)))
    np.add.at(totals, category, accuracy * weights[:, None])
    return shares, totals / shares[:, None]


def within_sets(table: RoutingTable, sets: Sequence[Mapping[str, Any]]) -> RoutingTable:
    """Return the table in which each category is served by its own set of experts only.

    Parameters
    ----------
    table
        The table of all experts.
    sets
        A stored plan's ``sets``: mappings with ``category`` and ``experts`` (places in the plan).
    """
    allowed = table.in_time.copy()
    for own in sets:
        members = np.isin(np.arange(len(table.experts)), list(own["experts"]))
        allowed[table.categories.index(own["category"])] &= members
    return replace(table, in_time=allowed)


def table_of_plan(plan: dict[str, Any], names: Sequence[str]) -> RoutingTable:
    """Return the routing table that a stored plan tells on its own, without prices.

    A gated plan carries its table. A plan of clusters says who answers which cluster; the worth of
    an expert in a category is then the share of the category's clusters that it answers.

    Raises
    ------
    InputError
        When the content is no selection plan.
    """
    try:
        experts = tuple(
            Served(name, e["llm"], e["precision"], e["server"])
            for name, e in zip(names, plan["experts"], strict=True)
        )
        reports = plan["by_category"]
        categories = [report["category"] for report in reports]
        shares = np.array([report["share_of_prompts"] for report in reports], dtype=np.float64)
        routing = plan["routing"]
        own = routing.get("table") if isinstance(routing, dict) else None
        table = own or _answered(routing, categories, plan["experts"])
    except DAMAGE as error:
        raise InputError(f"not a selection plan: {error}") from error
    served = [{name: getattr(e, name) for name in Served.__slots__} for e in experts]
    head = {"format": _FORMAT, "instance": str(plan.get("instance", "")), "experts": served}
    rest = {"categories": categories, "shares": shares.tolist(), "price_per_j": 0, "price_per_s": 0}
    return RoutingTable.from_dict({**head, **rest, **table})


def _answered(routing: Any, categories: list[str], experts: list[Any]) -> dict[str, Any]:
    """Return a table from the plan's answers alone: shares of clusters, mean joules, no seconds."""
    shape = (len(categories), len(experts))
    overall = np.array([expert["share_of_prompts"] for expert in experts], dtype=np.float64)
    worth = np.zeros(shape)
    for route in routing if isinstance(routing, list | tuple) else ():
        category = str(route["cluster"]).rpartition("/")[0] or str(route["cluster"])
        if category in categories and route["expert"] is not None:
            worth[categories.index(category), int(route["expert"])] += 1
    known = worth.sum(axis=1, keepdims=True)
    worth = np.divide(worth, known, out=np.broadcast_to(overall, shape).copy(), where=known > 0)
    joules = np.array([expert["energy_j_per_prompt"] for expert in experts], dtype=np.float64)
    return {
        "worth": worth.tolist(),
        "energy_j": np.broadcast_to(joules, shape).tolist(),
        "delay_s": np.zeros(shape).tolist(),
        "in_time": np.ones(shape).tolist(),
    }
