"""From a trace to the conditions of every step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moe2opt.replay.compiled import Conditions, ReplayModel
from moe2opt.replay.traces.trace import Trace
from moe2opt.result import FloatArray, InputError

_BITS_PER_BYTE = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What happens in each of n steps, whether anybody knows it or not.

    Attributes
    ----------
    trace, model, link
        The trace on a uniform grid, the compiled instance, the link that ``mbit_per_s`` drives.
    rates
        ``(n, L)`` bytes per second.
    memory_share, load
        ``(n, T)`` shares.
    mix
        ``(n, D)`` weights of domains.
    """

    trace: Trace
    model: ReplayModel
    link: int
    rates: FloatArray
    memory_share: FloatArray
    load: FloatArray
    mix: FloatArray

    def __len__(self) -> int:
        return len(self.trace)

    def at(self, k: int) -> Conditions:
        """Return the conditions of step k."""
        server = self.trace.server[k] if self.trace.server else None
        return Conditions(self.rates[k], self.memory_share[k], self.load[k], self.mix[k], server)

    def measured(self, k: int) -> float:
        """Return the bytes per second of the link measured in step k, NaN where nothing was."""
        return float("nan") if self.trace.missing[k] else float(self.rates[k, self.link])

    def mean(self) -> Conditions:
        """Return the mean conditions of the whole trace, at the first server."""
        first = self.at(0)
        return replace(
            first,
            rates=self.rates.mean(axis=0),
            memory_share=self.memory_share[0],
            load=self.load.mean(axis=0),
            mix=self.mix.mean(axis=0),
        )


def build_world(model: ReplayModel, trace: Trace, link: str | None = None) -> World:
    """Join a trace on a uniform grid with an instance.

    Parameters
    ----------
    model, trace
        The compiled instance and the trace.
    link
        Link that ``mbit_per_s`` drives, ``a-b``; the slowest one between devices when left out.

    Raises
    ------
    InputError
        When the trace names a link, tier or domain that the instance does not have.
    """
    steps, nominal = len(trace), model.nominal
    at = model.link(link, driven=bool(trace.server) or "" in trace.columns("mbit_per_s"))
    rates = np.tile(nominal.rates, (steps, 1))
    for name, values in trace.columns("mbit_per_s").items():
        rates[:, at if not name else model.link(name)] = values * 1e6 / _BITS_PER_BYTE
    if trace.server:
        rates[np.array([name == "" for name in trace.server]), at] = 0.0
    share = np.tile(nominal.memory_share, (steps, 1))
    load = np.tile(nominal.load, (steps, 1))
    for table, kind in ((share, "memory_share"), (load, "load")):
        for name, values in trace.columns(kind).items():
            table[:, model.topology.index(name, f"trace {trace.name}: {kind}[{name}]")] = values
    return World(trace, model, at, rates, share, load, _mix(model, trace))


def _mix(model: ReplayModel, trace: Trace) -> FloatArray:
    """Return the ``(n, D)`` weights of domains; a trace that gives some gives all."""
    domains, columns = model.instance.activation.domains, trace.columns("mix")
    for name in columns:
        if name not in domains:
            raise InputError(
                f"trace {trace.name}: mix[{name}]: the instance has no such domain "
                f"({', '.join(domains)})"
            )
    if not columns:
        return np.tile(model.nominal.mix, (len(trace), 1))
    mix = np.stack([columns.get(name, np.zeros(len(trace))) for name in domains], axis=1)
    total = mix.sum(axis=1, keepdims=True)
    empty = np.flatnonzero(total[:, 0] <= 0)
    if len(empty):
        raise InputError(f"trace {trace.name}: mix in step {empty[0] + 1} has no weight at all")
    return np.asarray(mix / total)
