"""Run a placement plan on a real model and measure what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moe2opt.executor.faults import explained
from moe2opt.executor.model.decoder import Decoder
from moe2opt.executor.model.experts import ExpertSource
from moe2opt.executor.model.families import ModelSpec
from moe2opt.executor.run import memory
from moe2opt.executor.run.passes import OnToken, context_bytes, dense_bytes, run_pass
from moe2opt.executor.run.record import Held, Pass, Run
from moe2opt.executor.run.slots import Policy
from moe2opt.executor.run.tiered import Predict, TieredExperts
from moe2opt.executor.store.bank import Bank
from moe2opt.executor.store.formats import format_of
from moe2opt.executor.store.layout import Kind, layout_of
from moe2opt.executor.store.merging import PlannedSource
from moe2opt.executor.store.store import Shapes, Store
from moe2opt.placement import PlacementInstance
from moe2opt.placement.assignment import Assignment
from moe2opt.profiles.measure.figures import UnavailableError
from moe2opt.profiles.measure.power import find_meters
from moe2opt.result import InputError, IntArray


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
    layout = layout_of(instance, assignment, settings.tiers, cuda=bool(torch.cuda.is_available()))
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
            pinned = None if policy != "pinned" else _pinned(instance, drawn=not words)
            predict = None if instance.config.prefetch is None else _next_layer(decoder)
            with TieredExperts(store, policy, pinned, predict, decoder.spec.top_k) as experts:
                room = max(tokens.shape[1], instance.config.model.context_tokens)
                run = _measured(decoder, experts, tokens, settings, before, room, on_token)
    finally:
        if bank is None:
            own.close()
    return replace(run, notes=(*layout.notes, *words, *run.notes))


def _measured(
    decoder: Decoder,
    experts: TieredExperts,
    tokens: IntArray,
    settings: Settings,
    before: int | None,
    room: int,
    on_token: OnToken | None,
) -> Run:
    """Warm up, run the passes, and read the meters and the memory."""
    run_pass(decoder, experts, tokens[:1, :8])
    experts.served.clear()
    memory.give_back()
    passes, read = list[Pass](), memory.storage_bytes()
    total = settings.repeats * tokens.size

    def heard(done: int, _: int) -> None:
        if on_token is not None:
            on_token(len(passes) * tokens.size + done, total)

    while len(passes) < settings.repeats:
        passes.append(run_pass(decoder, experts, tokens, heard, room))
    after = memory.storage_bytes()
    joules, notes = _energy(decoder, experts, tokens, passes, settings)
    size = experts.store.held_bytes.copy()
    size[experts.layout.home] += experts.slot_bytes
    dense = dense_bytes(decoder)
    # The dense part was there before.
    largest = max((p.resident_bytes or 0 for p in passes), default=0)
    grown = None if before is None or not largest else largest - before + dense
    held = Held(
        tuple(size.tolist()),
        dense,
        context_bytes(decoder, room),
        experts.passing_bytes,
        grown,
        memory.peak_bytes(),
    )
    storage = None if read is None or after is None else (after - read) // settings.repeats
    return Run(experts.layout, tokens, tuple(passes), held, storage, joules, notes)


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


def _pinned(instance: PlacementInstance, *, drawn: bool) -> Callable[[int], Sequence[int]]:
    """Return which experts are pinned: the most used ones, or random ones where that is assumed."""
    cache = instance.config.cache
    order = np.argsort(-instance.activation.mixed, axis=1, kind="stable")
    if drawn and cache is not None and cache.hits == "hypergeometric":
        draw = np.random.default_rng(0)
        order = np.stack([draw.permutation(instance.shape.experts) for _ in instance.shape.layers])
    rows: list[list[int]] = order.tolist()
    return rows.__getitem__


def _next_layer(decoder: Decoder) -> Predict:
    """Return a guess of the next layer's experts: its router on the present layer's input."""

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
    if not settings.energy:
        return None, ()
    meters, missing = find_meters()
    if not meters:
        return None, tuple(f"energy: {m.what}: {m.why}" for m in missing[:1])
    few = tokens[:1, :32]
    seconds = float(np.median([p.token_s.sum() for p in passes])) / tokens.size
    try:
        power = meters[0].mean_power_w(lambda: run_pass(decoder, experts, few), 1.0)
    except UnavailableError as error:
        return None, (f"energy: {error}",)
    return power * seconds, (f"energy: {meters[0].name}, {meters[0].scope}",)
