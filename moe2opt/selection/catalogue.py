"""The catalogue of deployable experts: every LLM at every precision on every server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from moe2opt.profiles import Profiles
from moe2opt.profiles.formats import Format as WeightFormat
from moe2opt.profiles.formats import engine_class, find_format
from moe2opt.profiles.predicting.answer import Answer, answers, is_far, trust
from moe2opt.profiles.predicting.request import Load, load_of
from moe2opt.result import FloatArray, InputError
from moe2opt.selection.outcomes.files import with_hint
from moe2opt.selection.outcomes.tables import ClusterTables, Llm
from moe2opt.selection.sections import LlmPool, Precision, SelectionConfig, Server

_BYTES_PER_GIB = 2**30


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
    """

    llm: str
    precision: str
    server: str
    memory_gib: float
    energy_j_per_prompt: float
    quality_factor: float
    power_scope: str
    bits_per_weight: float

    @property
    def label(self) -> str:
        """Name such as ``Yi-6B q4 @ orin-a``."""
        return f"{self.llm} {self.precision} @ {self.server}"


@dataclass(frozen=True, slots=True)
class Host:
    """One server of the instance.

    Attributes
    ----------
    name, device
        Its name and device type.
    capacity_gib
        Memory for experts, the reserve taken off.
    power_scope
        What the power figures of its device include.
    """

    name: str
    device: str
    capacity_gib: float
    power_scope: str


@dataclass(frozen=True, slots=True)
class Format:
    """A precision with its numbers filled in, and the weight format and engine behind it."""

    name: str
    bits_per_weight: float
    quality_factor: float
    weights: WeightFormat


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
        The N experts as the profiles see them.
    busy_s
        ``(K, N)`` seconds that a server works on an answer: `delay_s` without network and gate.
    """

    experts: tuple[Expert, ...]
    hosts: tuple[Host, ...]
    delay_s: FloatArray
    energy_j: FloatArray
    loads: tuple[Load, ...]
    busy_s: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Mean prompt and answer lengths by category, in tokens.

    Attributes
    ----------
    categories
        The K categories, sorted.
    shares
        ``(K,)`` share of the prompts.
    prompt_tokens
        ``(K,)`` prompt lengths.
    output_tokens
        ``(K, M)`` answer lengths of each LLM.
    """

    categories: tuple[str, ...]
    shares: FloatArray
    prompt_tokens: FloatArray
    output_tokens: FloatArray


def build_catalogue(
    config: SelectionConfig, tables: ClusterTables, profiles: Profiles, traffic: Traffic
) -> Catalogue:
    """Return every LLM of `tables` at every precision on every server that may hold it.

    With `config.robust`, seconds and joules are the quantile of their predictions that it asks
    for; they only grow with it.
    """
    formats = [_format(k, item, profiles) for k, item in enumerate(config.precisions)]
    servers, hosts = _hosts(config.servers, profiles)
    quantile = config.robust.level if config.robust else None
    experts, delays, energies, loads, busy = [], [], [], [], []
    for m, llm in enumerate(tables.llms):
        for form in formats:
            for server, host in zip(servers, hosts, strict=True):
                if not config.may_hold(server, host.name, llm.name, form.name):
                    continue
                answer = _answer(llm, form, server, profiles, traffic, m)
                joules = answer.joules(quantile)
                experts.append(_expert(config, llm, form, host, math.fsum(traffic.shares * joules)))
                network_s = _network_s(config, server, traffic, m)
                busy.append(answer.seconds(quantile))
                delays.append(busy[-1] + network_s)
                energies.append(joules)
                loads.append(answer.load)
    if not experts:
        raise InputError("servers: no server may hold an LLM of the pool")
    return Catalogue(
        tuple(experts),
        hosts,
        np.stack(delays, axis=1),
        np.stack(energies, axis=1),
        tuple(loads),
        np.stack(busy, axis=1),
    )


def accounts(catalogue: Catalogue, profiles: Profiles) -> Iterator[str]:
    """Yield, device by device, how far its predictions are off and how many are extrapolated."""
    words: dict[str, dict[str, None]] = {}
    far: dict[str, list[bool]] = {}
    for load in catalogue.loads:
        name = load.device["device"]
        words.setdefault(name, {}).update(dict.fromkeys(trust(profiles.fit, load)))
        far.setdefault(name, []).append(is_far(profiles.fit, load))
    for name, parts in words.items():
        count = sum(far[name])
        extra = f"; {count} of {len(far[name])} experts extrapolate decoding" if count else ""
        yield f"{name}: time and energy are predicted: {'; '.join(parts)}{extra}"


def traffic_of(tables: ClusterTables) -> Traffic:
    """Return the mean lengths by category, clusters weighted by their share of the prompts."""
    names, group = np.unique(np.asarray(tables.categories), return_inverse=True)
    member = (group == np.arange(len(names))[:, None]) * tables.weights
    shares = np.array([math.fsum(row) for row in member])
    member = member / shares[:, None]
    return Traffic(
        categories=tuple(str(name) for name in names),
        shares=shares,
        prompt_tokens=_mean(member, tables.prompt_tokens),
        output_tokens=_mean(member, tables.output_tokens),
    )


def _mean(member: FloatArray, lengths: FloatArray) -> FloatArray:
    """Return ``member @ lengths``, each sum rounded once.

    A matrix product may differ in the last bit between machines, and a certificate would then
    belong to another problem there.
    """
    columns = lengths.reshape(len(lengths), -1).T
    sums = [[math.fsum(row * column) for column in columns] for row in member]
    return np.array(sums).reshape(len(member), *lengths.shape[1:])


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
        if (pool.max_params_b is None or llm.params_total_b <= pool.max_params_b)
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


def _format(k: int, item: Precision, profiles: Profiles) -> Format:
    row = profiles.precision(item.name) or {}
    bits = item.bits_per_weight or row.get("bits_per_weight")
    factor = item.quality_factor or row.get("quality_factor")
    if bits is None or factor is None:
        known = [r["precision"] for r in profiles.precisions]
        hint = with_hint(item.name, known) or "; give bits_per_weight and quality_factor"
        raise InputError(f"precisions.{k}.name: '{item.name}' is not in precisions.csv{hint}")
    weights = find_format(row.get("quant", item.name), profiles.formats, float(bits))
    engine = engine_class(item.engine) or weights.engine
    return Format(item.name, float(bits), float(factor), replace(weights, engine=engine))


def _hosts(
    servers: tuple[Server, ...], profiles: Profiles
) -> tuple[list[Server], tuple[Host, ...]]:
    """Return every single server with its host, copies of one entry numbered."""
    singles: list[Server] = []
    hosts: dict[str, Host] = {}
    for k, server in enumerate(servers):
        for name in server.copies:
            if name in hosts:
                raise InputError(f"servers.{k}.name: the name '{name}' appears twice")
            hosts[name] = _host(k, name, server, profiles)
            singles.append(server)
    return singles, tuple(hosts.values())


def _host(k: int, name: str, server: Server, profiles: Profiles) -> Host:
    try:
        device = profiles.device(server.device)
    except InputError as error:
        raise InputError(f"servers.{k}.{error}") from error
    memory = server.memory_gib
    if memory is None:
        memory = float(device["memory_gib"])
    if server.reserve_gib >= memory:
        raise InputError(f"servers.{k}.reserve_gib: reserves all of the {memory:g} GiB")
    scope = profiles.fit.calibration.scopes.get(device["device"]) or device["power_limit_scope"]
    return Host(name, device["device"], memory - server.reserve_gib, scope or "scope not stated")


def _expert(config: SelectionConfig, llm: Llm, form: Format, host: Host, energy_j: float) -> Expert:
    weights_gib = llm.params_total_b * 1e9 * form.bits_per_weight / 8 / _BYTES_PER_GIB
    return Expert(
        llm=llm.name,
        precision=form.name,
        server=host.name,
        memory_gib=weights_gib + config.context_gib,
        energy_j_per_prompt=energy_j,
        quality_factor=form.quality_factor,
        power_scope=host.power_scope,
        bits_per_weight=form.bits_per_weight,
    )


def _answer(
    llm: Llm, form: Format, server: Server, profiles: Profiles, traffic: Traffic, m: int
) -> Answer:
    load = load_of(
        profiles.device(server.device),
        form.weights,
        llm.params_total_b * 1e9 * form.bits_per_weight / 8,
        params_b=llm.params_total_b,
        active_params_b=llm.params_active_b,
        power_mode=server.power_mode,
        power_cap_w=server.power_cap_w,
    )
    return answers(profiles.fit, load, traffic.prompt_tokens, traffic.output_tokens[:, m])


def _network_s(config: SelectionConfig, server: Server, traffic: Traffic, m: int) -> FloatArray:
    bits_per_token = 8 * config.delay.bytes_per_token
    up_s = traffic.prompt_tokens * bits_per_token / (server.uplink_mbps * 1e6)
    down_s = traffic.output_tokens[:, m] * bits_per_token / (server.downlink_mbps * 1e6)
    return up_s + down_s + server.round_trip_ms / 1e3 + config.delay.gate_s
