"""Which sections of a selection file go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe2opt.selection.sections import SelectionConfig


def complaints_of(config: SelectionConfig) -> Iterator[str]:
    """Yield what does not go together, each complaint starting with the key at fault."""
    yield from _mixture(config)
    yield from _lengths(config)
    if config.sets == "per_category":
        yield from _sets(config)


def answering(config: SelectionConfig) -> int | None:
    """Return how many experts answer a prompt under the objective `top_k`, None if unknown."""
    if config.mixture.k is None and config.experts is not None:
        return config.routing.top_k
    return config.mixture.k


def mixes(config: SelectionConfig) -> bool:
    """Whether several experts may answer a prompt together under the objective."""
    return config.objective in ("masked_softmax", "top_k")


def _mixture(config: SelectionConfig) -> Iterator[str]:
    if config.objective != "top_k" and config.mixture.k is not None:
        yield "mixture.k: only goes with objective 'top_k'"
    if not mixes(config) and config.mixture.model_fields_set:
        key = min(config.mixture.model_fields_set)
        yield f"mixture.{key}: only goes with objective 'masked_softmax' or 'top_k'"
    if config.objective != "top_k":
        return
    if answering(config) is None:
        yield "mixture.k: needed with objective 'top_k'"
    elif "top_k" in config.routing.model_fields_set and answering(config) != config.routing.top_k:
        yield f"mixture.k: {config.mixture.k}, but routing.top_k is {config.routing.top_k}"


def _lengths(config: SelectionConfig) -> Iterator[str]:
    """Yield a complaint where lengths of single answers are needed and not known."""
    if config.experts is not None or (config.lengths and config.lengths.distribution):
        return
    if config.lengths:
        yield "lengths.distribution: required with `tables`, which hold mean lengths only"
    elif wanting := next(_length_users(config), None):
        yield f"lengths: needed for {wanting}; the tables hold mean lengths only"


def _length_users(config: SelectionConfig) -> Iterator[str]:
    if config.delay.statistic != "mean":
        yield f"delay.statistic '{config.delay.statistic}'"
    if config.delay.counts == "all":
        yield "delay.counts 'all'"
    if config.queue is not None:
        yield "queue"


def _sets(config: SelectionConfig) -> Iterator[str]:
    """Yield what sets by category do not go with: what is no sum over experts."""
    energy = config.energy.counts if config.energy else "all"
    others = (
        (config.experts is not None, "`experts`"),
        (mixes(config), f"objective '{config.objective}'"),
        (energy != "all", f"energy.counts '{energy}'"),
        (config.delay.scope == "everywhere", "delay.scope 'everywhere'"),
        (config.delay.counts == "all", "delay.counts 'all'"),
        (config.queue is not None, "queue"),
        (config.robust is not None, "robust"),
    )
    for clashes, what in others:
        if clashes:
            yield f"sets: 'per_category' does not go with {what}"


def unusual(config: SelectionConfig) -> Iterator[str]:
    """Yield what may keep an instance from being a sum over experts, by its keys."""
    if mixes(config):
        yield f"objective '{config.objective}'"
    if config.energy is not None and config.energy.counts == "largest":
        yield "energy.counts 'largest'"
    if config.delay.counts == "all":
        yield "delay.counts 'all'"
    if config.delay.sharing == "shared" and config.delay.statistic != "mean":
        yield f"delay.statistic '{config.delay.statistic}' on shared servers"
    if config.queue is not None:
        yield "queue"


def notes_of(config: SelectionConfig) -> Iterator[str]:
    """Yield what is assumed about lengths, queues and mixtures."""
    lengths = config.lengths
    wanting = next(_length_users(config), None)
    if lengths and lengths.distribution and wanting:
        spread = "" if lengths.cv is None else f", standard deviation {lengths.cv:g} of the mean"
        yield (
            f"answer lengths are assumed {lengths.distribution}{spread}, "
            "long for all LLMs on the same prompts"
        )
    if config.queue is not None:
        yield (
            f"every answer is taken to wait {config.queue.wait_limit_s:g} s, the longest mean wait "
            "allowed; quantiles do not cover how single waits vary"
        )
    if mixes(config):
        yield "the test figures are those of the leading expert of each prompt, not of the mixture"
