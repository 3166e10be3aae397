"""Run a placement plan on a real model and measure what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.executor.faults import explained
from moe2opt.executor.model.experts import ExpertSource, Weights
from moe2opt.executor.run import memory
from moe2opt.executor.run.passes import (
    OnToken,
    Pass,
    context_bytes,
    dense_bytes,
    run_pass,
)
from moe2opt.executor.run.slots import Policy
from moe2opt.executor.run.tiered import Predict, TieredExperts
from moe2opt.executor.store.bank import Bank
from moe2opt.executor.store.formats import format_of
from moe2opt.executor.store.layout import Kind, Layout, layout_of
from moe2opt.executor.store.merging import layer_weights
from moe2opt.executor.store.store import Shapes, Store
from moe2opt.placement.assignment import MERGE, Assignment
from moe2opt.result import FloatArray, InputError, IntArray

if TYPE_CHECKING:
    from torch import Tensor

    from moe2opt.executor.model.decoder import Decoder
    from moe2opt.executor.model.families import ModelSpec
    from moe2opt.placement import PlacementInstance


@dataclass(frozen=True, slots=True)
class Settings:
    """How a plan is run.

    Attributes
    ----------
    repeats
        Passes over the tokens; a token's time is the median of its passes.
    tiers
        Real memory by name of the tier, where its kind does not decide.
    policy
        Policy of cache slots; what the configuration's hit rates stand for when None.
    scratch
        Folder of the disk that stands for disk tiers; the temporary folder when None.
    energy
        Whether a power meter is read, which takes a further pass.
    """

    repeats: int = 3
    tiers: Mapping[str, Kind] = field(default_factory=dict)
    policy: Policy | None = None
    scratch: Path | None = None
    energy: bool = True


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of a run.

    Attributes
    ----------
    experts_bytes
        Experts in DRAM and on a CUDA device, cache slots included, by tier.
    dense_bytes, context_bytes
        The rest of the model, and keys and values of a sequence.
    passing_bytes
        Buffers that copies pass through.
    grown_bytes
        Growth of this process's own memory while the plan was built and run, and the dense part,
        which was there before; None where the system does not tell. It includes what torch and
        Python take for themselves.
    peak_bytes
        Largest resident set of the process so far (VmHWM).
    """

    experts_bytes: tuple[int, ...]
    dense_bytes: int
    context_bytes: int
    passing_bytes: int
    grown_bytes: int | None
    peak_bytes: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A plan as it was run.

    Attributes
    ----------
    layout
        How it was run.
    tokens
        ``(S, N)``.
    passes
        The repeats.
    held
        Memory.
    storage_bytes
        Bytes that the process had read from disks per pass, None where the system does not tell.
    joules_per_token
        From a power meter, None without one.
    notes
        What must be known about the figures.
    """

    layout: Layout
    tokens: IntArray
    passes: tuple[Pass, ...]
    held: Held
    storage_bytes: int | None = None
    joules_per_token: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def token_s(self) -> FloatArray:
        """``(S * N,)`` seconds of each token: the median of its passes."""
        return np.asarray(np.median([p.token_s for p in self.passes], axis=0))

    @property
    def layer_s(self) -> FloatArray:
        """``(L,)`` mean seconds per token of the experts of each layer."""
        return np.asarray(np.median([p.experts_s for p in self.passes], axis=0).mean(axis=0))

    @property
    def losses(self) -> FloatArray:
        """``(S, N - 1)`` loss in nats of each token but the first."""
        return self.passes[0].losses


class PlannedSource:
    """The weights of the experts that a plan stores: merged where it merges.

    Parameters
    ----------
    source, spec
        The model.
    assignment
        Forms and representatives.
    shares
        ``(L, E)`` use, the weights in merging.
    """

    def __init__(
        self, source: ExpertSource, spec: ModelSpec, assignment: Assignment, shares: FloatArray
    ) -> None:
        self._source, self._spec = source, spec
        self._assignment, self._shares = assignment, shares
        self._row = {layer: row for row, layer in enumerate(spec.moe_layers)}
        self._last: tuple[int, dict[int, Weights]] = (-1, {})

    def expert_weights(self, layer: int, expert: int) -> dict[str, Tensor]:
        """Return what serves an expert; a merged layer is kept until another one is asked for."""
        row = self._row[layer]
        if not (self._assignment.form[row] == MERGE).any():
            return self._source.expert_weights(layer, expert)
        if self._last[0] != layer:
            own: dict[int, Weights] = {
                e: {name: t.float() for name, t in self._source.expert_weights(layer, e).items()}
                for e in range(self._spec.experts)
            }
            a = self._assignment
            args = (a.form[row], a.representative[row], self._shares[row], 0.0)
            self._last = (layer, layer_weights(own, *args))
        return dict(self._last[1][expert])


def shapes_of(instance: PlacementInstance, spec: ModelSpec) -> Shapes:
    """Return how the experts of a plan become bytes.

    Raises
    ------
    InputError
        When the model's experts are not those of the instance, or a format cannot be packed.
    """
    layers, experts = instance.shape.size
    mine = (instance.shape.layers, experts, instance.shape.top_k, instance.shape.hidden)
    if mine != (spec.moe_layers, spec.experts, spec.top_k, spec.hidden):
        raise InputError(
            f"execute: the model has {len(spec.moe_layers)} layers x {spec.experts} experts, "
            f"top-{spec.top_k}, width {spec.hidden}; the plan is for {layers} x {experts}, "
            f"top-{instance.shape.top_k}, width {instance.shape.hidden}"
        )
    formats = tuple(format_of(p.name, p.bits_per_weight) for p in instance.precisions)
    parts = 3 if instance.config.granularity == "tensor" else 1
    return Shapes(formats, spec.hidden, spec.expert_width, parts)


def run_plan(
    instance: PlacementInstance,
    assignment: Assignment,
    source: ExpertSource,
    decoder: Decoder,
    tokens: IntArray,
    settings: Settings | None = None,
    *,
    bank: Bank | None = None,
    on_token: OnToken | None = None,
) -> Run:
    """Run a plan and measure it.

    Parameters
    ----------
    instance, assignment
        What the plan says.
    source, decoder
        Weights of the experts, and the rest of the model, on the home device.
    tokens
        ``(S, N)`` token numbers; each row is a sequence.
    settings
        How to run.
    bank
        File behind disk tiers that several plans share; only for plans that merge nothing.
    on_token
        Hears tokens done and to be done, over all passes.

    Raises
    ------
    InputError
        When the plan cannot be run here; nothing is left behind.
    """
    settings = settings or Settings()
    layout = layout_of(instance, assignment, settings.tiers, cuda=_cuda())
    shapes = shapes_of(instance, decoder.spec)
    if layout.dropped.any():
        decoder = decoder.without(layout.dropped)
    planned = PlannedSource(source, decoder.spec, assignment, instance.activation.mixed)
    memory.give_back()
    before = memory.anonymous_bytes()
    own = Bank(settings.scratch) if bank is None else bank
    try:
        with explained("execute"):
            store = Store(layout, shapes, planned, own)
            policy, words = _policy(instance, settings)
            pinned = _pinned(instance, policy, words)
            predict = _predictor(instance, decoder)
            with TieredExperts(store, policy, pinned, predict, decoder.spec.top_k) as experts:
                room = max(tokens.shape[1], instance.config.model.context_tokens)
                run = _measured(decoder, experts, tokens, settings, before, room, on_token)
    finally:
        if bank is None:
            own.close()
    notes = (*layout.notes, *words, *run.notes)
    return Run(layout, tokens, run.passes, run.held, run.storage_bytes, run.joules_per_token, notes)


def _measured(
    decoder: Decoder,
    experts: TieredExperts,
    tokens: IntArray,
    settings: Settings,
    before: int | None,
    room: int,
    on_token: OnToken | None,
) -> Run:
    warm = tokens[:1, : min(8, tokens.shape[1])]
    run_pass(decoder, experts, warm)
    experts.notes.served.clear()
    memory.give_back()
    passes, read = [], memory.storage_bytes()
    total = settings.repeats * tokens.size
    for repeat in range(settings.repeats):
        done = repeat * tokens.size
        passes.append(run_pass(decoder, experts, tokens, _shifted(on_token, done, total), room))
    after = memory.storage_bytes()
    joules, notes = _energy(decoder, experts, tokens, passes, settings)
    held = Held(
        _experts_bytes(experts),
        dense_bytes(decoder),
        context_bytes(decoder, room),
        experts.passing_bytes,
        _grown(before, passes, dense_bytes(decoder)),
        memory.peak_bytes(),
    )
    storage = None if read is None or after is None else (after - read) // settings.repeats
    return Run(experts.layout, tokens, tuple(passes), held, storage, joules, notes)


def _grown(before: int | None, passes: Sequence[Pass], dense: int) -> int | None:
    """Return the growth of the process, and the dense part, which was there before."""
    largest = max((p.resident_bytes or 0 for p in passes), default=0)
    return None if before is None or not largest else largest - before + dense


def _experts_bytes(experts: TieredExperts) -> tuple[int, ...]:
    held = experts.store.held_bytes.copy()
    held[experts.layout.home] += experts.slot_bytes
    return tuple(int(size) for size in held)


def _shifted(on_token: OnToken | None, done: int, total: int) -> OnToken | None:
    if on_token is None:
        return None
    return lambda now, _: on_token(done + now, total)


def _cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _policy(instance: PlacementInstance, settings: Settings) -> tuple[Policy, tuple[str, ...]]:
    """Return the policy that the configuration's hit rates stand for, and what to know."""
    cache = instance.config.cache
    if cache is None:
        return "lru", ()
    of_hits: dict[str, Policy] = {"lru": "lru", "static": "pinned", "hypergeometric": "pinned"}
    policy = settings.policy or of_hits.get(cache.hits, "lru")
    if settings.policy is not None and settings.policy != of_hits.get(cache.hits, "lru"):
        return policy, (f"cache: hit rates are predicted for '{cache.hits}', run with {policy}",)
    if cache.hits == "published":
        return policy, ("cache: hit rates are published ones with prefetching, run with plain lru",)
    return policy, ()


def _pinned(instance: PlacementInstance, policy: Policy, words: tuple[str, ...]) -> Any:
    """Return which experts are pinned: the most used ones, or random ones where that is assumed."""
    if policy != "pinned":
        return None
    hits = None if instance.config.cache is None else instance.config.cache.hits
    if hits == "hypergeometric" and not words:
        draw = np.random.default_rng(0)
        order = np.stack([draw.permutation(instance.shape.experts) for _ in instance.shape.layers])
    else:
        order = np.argsort(-instance.activation.mixed, axis=1, kind="stable")

    def pinned(row: int) -> Sequence[int]:
        chosen: list[int] = order[row].tolist()
        return chosen

    return pinned


def _predictor(instance: PlacementInstance, decoder: Decoder) -> Predict | None:
    """Return a guess of the next layer's experts: its router on the present layer's input."""
    if instance.config.prefetch is None:
        return None

    def predict(row: int, hidden: Tensor) -> Sequence[int]:
        chosen, _ = decoder.route(decoder.spec.moe_layers[row], hidden)
        guessed: list[int] = chosen[0].tolist()
        return guessed

    return predict


def _energy(
    decoder: Decoder,
    experts: TieredExperts,
    tokens: IntArray,
    passes: Sequence[Pass],
    settings: Settings,
) -> tuple[float | None, tuple[str, ...]]:
    """Return joules per token by the first power meter that answers."""
    from moe2opt.profiles.measure.figures import UnavailableError
    from moe2opt.profiles.measure.power import find_meters

    if not settings.energy:
        return None, ()
    meters, missing = find_meters()
    if not meters:
        return None, tuple(f"energy: {m.what}: {m.why}" for m in missing[:1])
    few = tokens[:1, : min(32, tokens.shape[1])]
    seconds = float(np.median([p.token_s.sum() for p in passes])) / tokens.size
    try:
        power = meters[0].mean_power_w(lambda: run_pass(decoder, experts, few), 1.0)
    except UnavailableError as error:
        return None, (f"energy: {error}",)
    return power * seconds, (f"energy: {meters[0].name}, {meters[0].scope}",)
