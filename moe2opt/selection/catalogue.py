"""The catalogue of deployable experts: every LLM at every precision on every server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from moe2opt.profiles import Profiles
from moe2opt.profiles.predicting.answer import PHASES, Answer, answers, is_far, trust
from moe2opt.profiles.predicting.request import Load, load_of
from moe2opt.result import FloatArray, InputError
from moe2opt.selection.costs import (
    Cost,
    Traffic,
    column_of,
    foreign_cost,
    measured_cost,
    predicted_cost,
)
from moe2opt.selection.measured.cells import Cells, Measured
from moe2opt.selection.offers import (
    AS_MEASURED,
    Format,
    Host,
    format_of,
    hosts_of,
    is_offered,
    offers,
)
from moe2opt.selection.outcomes.files import with_hint
from moe2opt.selection.outcomes.tables import ClusterTables, Llm
from moe2opt.selection.sections import LlmPool, SelectionConfig, Server

_BYTES_PER_GIB = 2**30

#: Experts with missing cells that are listed before the rest is only counted.
_MOST_GAPS = 20


@dataclass(frozen=True, slots=True)
class Expert:
    """One LLM at one precision on one server.

    Attributes
    ----------
    llm, precision, server
        What is deployed where.
    memory_gib
        Weights and context in GiB.
    energy_j_per_prompt
        Joules per prompt, averaged over the categories by their share; a quantile of them where
        the budget is kept robustly.
    quality_factor
        Share of the measured accuracy that the precision keeps (estimated).
    power_scope
        What the joules include; never compare across scopes.
    bits_per_weight
        Effective bits per weight of the precision.
    basis
        Where its seconds and joules come from: ``measured``, ``predicted``, or what of them is.
    money_per_prompt, money_per_hour
        Money per prompt, averaged over the categories, and per hour while it is deployed, besides
        that of its server.
    """

    llm: str
    precision: str
    server: str
    memory_gib: float
    energy_j_per_prompt: float
    quality_factor: float
    power_scope: str
    bits_per_weight: float
    basis: str = "predicted"
    money_per_prompt: float = 0.0
    money_per_hour: float = 0.0

    @property
    def label(self) -> str:
        """Name such as ``Yi-6B q4 @ orin-a``."""
        return f"{self.llm} {self.precision} @ {self.server}"


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Experts with their times and energies by category.

    Attributes
    ----------
    experts
        The N experts, LLM by LLM, precision by precision, server by server.
    hosts
        The servers.
    delay_s, energy_j
        ``(K, N)`` mean seconds and joules of an answer in each of the K categories, or the
        quantile of their predictions that the configuration asks for.
    loads
        The experts of which something is predicted, as the profiles see them, and what it is.
    busy_s
        ``(K, N)`` seconds that a server works on an answer: `delay_s` without network and gate.
    money
        ``(K, N)`` mean money of an answer.
    """

    experts: tuple[Expert, ...]
    hosts: tuple[Host, ...]
    delay_s: FloatArray
    energy_j: FloatArray
    loads: tuple[tuple[Load, tuple[str, ...]], ...]
    busy_s: FloatArray
    money: FloatArray


def build_catalogue(
    config: SelectionConfig,
    tables: ClusterTables,
    profiles: Profiles,
    traffic: Traffic,
    measured: Measured | None = None,
) -> Catalogue:
    """Return every LLM of `tables` at every precision on every server that may hold it.

    With `config.robust`, seconds and joules that are predicted are the quantile of their
    predictions that it asks for; they only grow with it.

    Raises
    ------
    InputError
        When nothing may run anywhere, or for cells that a strict table lacks or that cannot be
        predicted.
    """
    formats = [format_of(k, item, profiles) for k, item in enumerate(config.precisions)]
    servers, hosts = hosts_of(config.servers, profiles, measured)
    experts: list[Expert] = []
    costs: list[Cost] = []
    for m, llm in enumerate(tables.llms):
        for form, server, host in offers(formats, servers, hosts):
            if not is_offered(config, llm, form, server, host, measured):
                continue
            cost = _cost(config, (llm, form, server, host), profiles, (traffic, m), measured)
            costs.append(cost)
            experts.append(_expert(config, llm, form, host, cost, traffic.shares))
    if not experts:
        raise InputError("servers: no server may hold an LLM of the pool")
    if measured is not None and measured.strict:
        _refuse_gaps(config, measured, experts, costs)
    return Catalogue(
        tuple(experts),
        _scoped(hosts, experts),
        np.stack([cost.delay_s for cost in costs], axis=1),
        np.stack([cost.joules for cost in costs], axis=1),
        tuple((cost.load, cost.phases) for cost in costs if cost.load is not None),
        np.stack([cost.busy_s for cost in costs], axis=1),
        np.stack([cost.money for cost in costs], axis=1),
    )


def _cost(
    config: SelectionConfig,
    offer: tuple[Llm, Format, Server, Host],
    profiles: Profiles,
    lengths: tuple[Traffic, int],
    measured: Measured | None,
) -> Cost:
    """Return what answers of one expert take; `lengths` are the traffic and its LLM's column."""
    llm, form, server, host = offer
    weight_bytes = llm.params_total_b * 1e9 * form.bits_per_weight / 8

    def predict(prompt: FloatArray, output: FloatArray) -> Answer:
        if host.unknown:
            what = f"{llm.name} {form.name} @ {host.name}"
            raise InputError(
                f"measured: {what}: a figure is missing, and '{server.device}' is not in "
                "devices.csv to predict it from"
            )
        assert server.device is not None and form.weights is not None
        load = load_of(
            profiles.device(server.device),
            form.weights,
            weight_bytes,
            params_b=llm.params_total_b,
            active_params_b=llm.params_active_b,
            power_mode=server.power_mode,
            power_cap_w=server.power_cap_w,
        )
        return answers(profiles.fit, load, prompt, output)

    traffic, m = lengths
    if server.api:
        cells = measured.cells.get((llm.name, form.name, host.name)) if measured else None
        cost = foreign_cost(config, traffic, m, cells or Cells())
        _check_foreign(config, f"{llm.name} @ {host.name}", cost)
        return cost
    place = (llm.name, form.name, host.name)
    cells = None if measured is None else measured.cells.get(place)
    if measured is None or cells is None:
        return predicted_cost(config, server, traffic, m, predict)
    return measured_cost(config, server, traffic, m, measured, cells, predict)


def _check_foreign(config: SelectionConfig, label: str, cost: Cost) -> None:
    """Raise an `InputError` where something is limited that nobody can know of an API."""
    limited = {
        "price": config.money is not None,
        "seconds": config.delay.limit_s is not None or config.queue is not None,
    }
    for name, words in cost.gaps.items():
        if limited.get(name):
            column = column_of(name)
            raise InputError(
                f"measured: {label}: no {words} (no {column}), and nobody can predict it"
            )


def _refuse_gaps(
    config: SelectionConfig, measured: Measured, experts: list[Expert], costs: list[Cost]
) -> None:
    """Raise an `InputError` that names the cells which a strict table lacks.

    A quantity is asked for where it has a column or a limit.
    """
    columns = measured.table.quantities
    asked = {
        "seconds": bool(columns & {"seconds", "prefill_s", "decode_s"})
        or config.delay.limit_s is not None
        or config.queue is not None,
        "joules": bool(columns & {"joules", "prefill_j", "decode_j"}) or config.energy is not None,
    }
    lacking = []
    for expert, cost in zip(experts, costs, strict=True):
        told = (w for name, w in cost.gaps.items() if not cost.foreign and asked[name])
        gaps = [f"{words} (no {column_of(words)})" for words in told]
        if gaps:
            lacking.append(f"{expert.label}: {', '.join(gaps)}")
    if lacking:
        rest = len(lacking) - _MOST_GAPS
        more = [f"... and {rest} more experts"] if rest > 0 else []
        listed = "\n".join((*lacking[:_MOST_GAPS], *more))
        raise InputError(f"measured.strict: {measured.table.name} does not say all:\n{listed}")


def _scoped(hosts: tuple[Host, ...], experts: list[Expert]) -> tuple[Host, ...]:
    """Return the servers with the power scopes of their experts."""
    scopes: dict[str, dict[str, None]] = {}
    for expert in experts:
        scopes.setdefault(expert.server, {})[expert.power_scope] = None
    return tuple(
        replace(host, power_scope=" and ".join(scopes.get(host.name, {host.power_scope: None})))
        for host in hosts
    )


def accounts(catalogue: Catalogue, profiles: Profiles) -> Iterator[str]:
    """Yield, device by device, how far its predictions are off and how many are extrapolated."""
    words: dict[str, dict[str, None]] = {}
    used: dict[str, set[str]] = {}
    far: dict[str, list[bool]] = {}
    for load, phases in catalogue.loads:
        name = load.device["device"]
        words.setdefault(name, {}).update(dict.fromkeys(trust(profiles.fit, load, phases)))
        used.setdefault(name, set()).update(phases)
        far.setdefault(name, []).append("decode" in phases and is_far(profiles.fit, load))
    for name, parts in words.items():
        what = [phase.replace("_", " ") for phase in PHASES if phase in used[name]]
        subject = "time and energy are" if len(what) == len(PHASES) else f"{', '.join(what)}"
        count = sum(far[name])
        extra = f"; {count} of {len(far[name])} experts extrapolate decoding" if count else ""
        yield f"{name}: {subject} predicted: {'; '.join(parts)}{extra}"


def measured_words(catalogue: Catalogue, measured: Measured, *, robust: bool) -> Iterator[str]:
    """Yield how much of the catalogue a measured table covers."""
    bases = [expert.basis for expert in catalogue.experts]
    whole, none = bases.count("measured"), bases.count("predicted")
    partly = len(bases) - whole - none
    words = [f"{count} {how}" for count, how in ((partly, "partly"), (none, "not")) if count]
    rest = f"; {', '.join(words)}: there the profiles predict" if words else ""
    name = measured.table.name
    yield f"{name}: seconds and joules of {whole} of {len(bases)} experts are measured{rest}"
    if robust and whole + partly:
        yield "measured figures count as they stand; the quantile is that of predictions"


def pool_of(pool: LlmPool, tables: ClusterTables) -> list[str]:
    """Return the names of the LLMs that the filter keeps, in the order of the tables.

    Raises
    ------
    InputError
        For a name that the tables do not hold, or when nothing is left.
    """
    known = [llm.name for llm in tables.llms]
    for key, names in (("include", pool.include or ()), ("exclude", pool.exclude)):
        for name in names:
            if name not in known:
                hint = with_hint(name, known)
                raise InputError(f"llms.{key}: '{name}' is not in the tables{hint}")
    kept = [
        llm.name
        for llm in tables.llms
        if not (pool.max_params_b is not None and llm.params_total_b > pool.max_params_b)
        and (pool.include is None or llm.name in pool.include)
        and llm.name not in pool.exclude
    ]
    if not kept:
        raise InputError("llms: no LLM of the tables is left in the pool")
    return kept


def check_holders(config: SelectionConfig, known: list[str], where: str) -> None:
    """Raise an `InputError` for an LLM that a server may hold and that `where` does not know."""
    named = [
        (f"servers.{k}.llms", llm) for k, s in enumerate(config.servers) for llm in s.llms or ()
    ]
    for key, llm in (*named, *((f"fixed.{llm}", llm) for llm in config.fixed)):
        if llm not in known:
            raise InputError(f"{key}: '{llm}' is not in the {where}{with_hint(llm, known)}")


def deadlines(config: SelectionConfig, categories: tuple[str, ...]) -> FloatArray:
    """Return the ``(K,)`` deadlines in seconds, ``inf`` where there is none."""
    limit = config.delay.limit_s
    if not isinstance(limit, dict):
        return np.full(len(categories), np.inf if limit is None else limit)
    for name in limit:
        if name not in categories:
            hint = with_hint(name, list(categories))
            raise InputError(f"delay.limit_s: '{name}' is not a category of the tables{hint}")
    return np.array([limit.get(name, np.inf) for name in categories])


def _expert(
    config: SelectionConfig, llm: Llm, form: Format, host: Host, cost: Cost, shares: FloatArray
) -> Expert:
    weights_gib = llm.params_total_b * 1e9 * form.bits_per_weight / 8 / _BYTES_PER_GIB
    scope = host.power_scope if host.api or "joules" in cost.gaps else AS_MEASURED
    return Expert(
        llm=llm.name,
        precision=form.name,
        server=host.name,
        memory_gib=0.0 if host.api else weights_gib + config.context_gib,
        energy_j_per_prompt=math.fsum(shares * cost.joules),
        quality_factor=form.quality_factor,
        power_scope=scope,
        bits_per_weight=form.bits_per_weight,
        basis=cost.basis,
        money_per_prompt=math.fsum(shares * cost.money),
        money_per_hour=cost.money_per_hour,
    )
