"""What may run where: single servers, precisions, and which of them go together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from moe2opt.profiles import Profiles
from moe2opt.profiles.formats import Format as WeightFormat
from moe2opt.profiles.formats import engine_class, find_format
from moe2opt.result import InputError
from moe2opt.selection.measured.cells import Measured
from moe2opt.selection.outcomes.files import with_hint
from moe2opt.selection.outcomes.tables import Llm
from moe2opt.selection.sections import Precision, SelectionConfig, Server
from moe2opt.selection.sections.config import API

#: Power scope of joules that a measured table gives.
AS_MEASURED = "as measured"

#: Power scope of an API: its machines are somebody else's.
NOT_OURS = "not ours, not counted"


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
        What the joules of its experts include.
    unknown
        Whether no profile knows the device, so that nothing can be predicted.
    api
        Whether it is an API, without memory and turns.
    money_per_hour
        What it costs per hour while anything is deployed on it.
    """

    name: str
    device: str
    capacity_gib: float
    power_scope: str
    unknown: bool = False
    api: bool = False
    money_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Format:
    """A precision with its numbers filled in, and its weight format and engine; None: not ours."""

    name: str
    bits_per_weight: float
    quality_factor: float
    weights: WeightFormat | None


#: What is served behind an API: nobody says in which format.
_FOREIGN = Format(API, 16.0, 1.0, None)


def offers(
    formats: list[Format], servers: list[Server], hosts: tuple[Host, ...]
) -> Iterator[tuple[Format, Server, Host]]:
    """Yield precisions and servers that go together: an API has a precision of its own."""
    places = list(zip(servers, hosts, strict=True))
    for form in formats:
        yield from ((form, server, host) for server, host in places if not server.api)
    yield from ((_FOREIGN, server, host) for server, host in places if server.api)


def is_offered(
    config: SelectionConfig,
    llm: Llm,
    form: Format,
    server: Server,
    host: Host,
    measured: Measured | None,
) -> bool:
    """Tell whether an LLM may run somewhere: weights that nobody has run behind an API alone."""
    if not config.may_hold(server, host.name, llm.name, form.name):
        return False
    if server.api:
        named = measured is not None and (llm.name, form.name, host.name) in measured.cells
        return server.llms is not None or named
    return llm.open_weights and not math.isnan(llm.params_total_b)


def format_of(k: int, item: Precision, profiles: Profiles) -> Format:
    """Return the precision of the k-th entry; raise `InputError` where its numbers are unknown."""
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


def hosts_of(
    servers: tuple[Server, ...], profiles: Profiles, measured: Measured | None
) -> tuple[list[Server], tuple[Host, ...]]:
    """Return every single server with its host, copies of one entry numbered."""
    singles: list[Server] = []
    hosts: dict[str, Host] = {}
    for k, server in enumerate(servers):
        for name in server.copies:
            if name in hosts:
                raise InputError(f"servers.{k}.name: the name '{name}' appears twice")
            hosts[name] = _host(k, name, server, profiles, measured)
            singles.append(server)
    return singles, tuple(hosts.values())


def _host(k: int, name: str, server: Server, profiles: Profiles, measured: Measured | None) -> Host:
    if server.device is None:
        return Host(name, "API", math.inf, NOT_OURS, api=True)
    memory = server.memory_gib
    rent = server.money_per_hour if server.billed == "deployed" else 0.0
    try:
        device = profiles.device(server.device)
    except InputError as error:
        if measured is not None and memory is not None and server.reserve_gib < memory:
            free = memory - server.reserve_gib
            return Host(name, server.device, free, AS_MEASURED, unknown=True, money_per_hour=rent)
        more = "; or give its memory_gib" if measured is not None else ""
        raise InputError(f"servers.{k}.{error}{more}") from error
    if memory is None:
        memory = float(device["memory_gib"])
    if server.reserve_gib >= memory:
        raise InputError(f"servers.{k}.reserve_gib: reserves all of the {memory:g} GiB")
    scope = profiles.fit.calibration.scopes.get(device["device"]) or device["power_limit_scope"]
    scope = scope or "scope not stated"
    free = memory - server.reserve_gib
    return Host(name, device["device"], free, scope, money_per_hour=rent)
