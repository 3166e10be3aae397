"""What answers of one expert take: measured where somebody measured it, predicted elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.profiles.predicting.answer import PHASES, Answer
from moe2opt.profiles.predicting.request import Load
from moe2opt.result import BoolArray, FloatArray
from moe2opt.selection.measured.cells import Cells, Measured, whole_or_parts
from moe2opt.selection.outcomes.tables import ClusterTables
from moe2opt.selection.sections import SelectionConfig, Server

#: Categories that a gap names before the rest is only counted.
_MOST_NAMES = 3

#: What a measured table may lack, prompt and output apart, as the profiles call it.
_MEASURED_PHASES = ("prefill", "decode", "prefill_energy", "decode_energy")

#: What predicts answers of one expert, from the lengths of prompts and answers.
Predictor = Callable[[FloatArray, FloatArray], Answer]


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Lengths of prompts and answers by category, or of single prompts, in tokens.

    Attributes
    ----------
    categories
        ``(R,)`` category of each row: the K categories, sorted, where rows are their means.
    shares
        ``(R,)`` share of the prompts.
    prompt_tokens
        ``(R,)`` prompt lengths.
    output_tokens
        ``(R, M)`` answer lengths of each LLM.
    prompts
        ``(R,)`` names where rows are single prompts; empty otherwise.
    """

    categories: tuple[str, ...]
    shares: FloatArray
    prompt_tokens: FloatArray
    output_tokens: FloatArray
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Cost:
    """What R answers of one expert take.

    Attributes
    ----------
    busy_s, delay_s, joules
        ``(R,)`` seconds of work on the server, seconds until the answer is there, joules.
    gaps
        What no measured table says, in words; a table that does not exist says nothing.
    load
        The expert as the profiles see it; None where nothing is predicted.
    phases
        What of it is predicted, in the words of `moe2opt.profiles.predicting.answer.PHASES`.
    """

    busy_s: FloatArray
    delay_s: FloatArray
    joules: FloatArray
    gaps: dict[str, str]
    load: Load | None
    phases: tuple[str, ...] = PHASES

    @property
    def basis(self) -> str:
        """Where its figures come from: ``measured``, ``predicted``, or what of them is."""
        if not self.gaps:
            return "measured"
        whole = all(self.gaps.get(name) == name for name in ("seconds", "joules"))
        return "predicted" if whole else f"predicted: {', '.join(self.gaps.values())}"


def predicted_cost(
    config: SelectionConfig, server: Server, traffic: Traffic, m: int, predict: Predictor
) -> Cost:
    """Return what answers take by the profiles alone; with robust budgets, at their quantile."""
    prompt, output = traffic.prompt_tokens, traffic.output_tokens[:, m]
    answer, quantile = predict(prompt, output), config.robust.level if config.robust else None
    busy_s = answer.seconds(quantile)
    delay_s = busy_s + network_s(config, server, prompt, output)
    gaps = {"seconds": "seconds", "joules": "joules"}
    return Cost(busy_s, delay_s, answer.joules(quantile), gaps, answer.load)


def measured_cost(
    config: SelectionConfig,
    server: Server,
    traffic: Traffic,
    m: int,
    measured: Measured,
    cells: Cells,
    predict: Predictor,
) -> Cost:
    """Return what answers take by a measured table, and by the profiles where it is silent."""

    def look(quantity: str) -> tuple[FloatArray, np.ndarray]:
        return cells.look(quantity, traffic.categories, traffic.prompts)

    def length(quantity: str, otherwise: FloatArray) -> FloatArray:
        value, level = look(quantity)
        return np.where(level > 0, value, otherwise)

    prompt = length("prompt_tokens", traffic.prompt_tokens)
    output = length("output_tokens", traffic.output_tokens[:, m])
    lengths = (prompt, output)
    busy_s, no_s, whole = whole_or_parts(
        look("seconds"), [look("prefill_s"), look("decode_s")], lengths
    )
    joules, no_j, _ = whole_or_parts(look("joules"), [look("prefill_j"), look("decode_j")], lengths)
    load = None
    if any(mask.any() for mask in (*no_s, *no_j)):
        answer, quantile = predict(*lengths), config.robust.level if config.robust else None
        load = answer.load
        busy_s = _filled(busy_s, no_s, answer.phase_seconds(quantile))
        joules = _filled(joules, no_j, answer.phase_joules(quantile))
    added_s = network_s(config, server, prompt, output)
    if measured.includes_network:
        added_s = np.where(whole, config.delay.gate_s, added_s)
    gaps = {}
    for name, masks in (("seconds", no_s), ("joules", no_j)):
        if words := _gap_words(name, masks, traffic.categories):
            gaps[name] = words
    missing = dict(zip(_MEASURED_PHASES, (*no_s, *no_j), strict=True))
    phases = tuple(phase for phase in PHASES if missing[phase].any())
    return Cost(busy_s, busy_s + added_s, joules, gaps, load, phases)


def _filled(
    known: FloatArray, missing: Sequence[BoolArray], phases: Sequence[FloatArray]
) -> FloatArray:
    for mask, predicted in zip(missing, phases, strict=True):
        known = known + np.where(mask, predicted, 0.0)
    return known


def _gap_words(name: str, missing: Sequence[BoolArray], categories: Sequence[str]) -> str:
    """Say which part of a quantity is missing where; empty where nothing is."""
    prompts, outputs = missing
    anywhere = prompts | outputs
    if not anywhere.any():
        return ""
    part = "" if (prompts & outputs).any() else " of prompts" if prompts.any() else " of outputs"
    if anywhere.all():
        return f"{name}{part}"
    names = list(dict.fromkeys(np.array(categories)[anywhere].tolist()))
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{name}{part} in {', '.join(names[:_MOST_NAMES])}{more}"


def column_of(gap: str) -> str:
    """Return the column of a measured table that would fill a gap."""
    columns = {
        "seconds of prompts": "prefill_tokens_per_s",
        "seconds of outputs": "decode_tokens_per_s",
        "joules of prompts": "j_per_prompt_token",
        "joules of outputs": "j_per_output_token",
        "seconds": "s_per_prompt",
        "joules": "j_per_prompt",
    }
    return next(column for start, column in columns.items() if gap.startswith(start))


def network_s(
    config: SelectionConfig, server: Server, prompt: FloatArray, output: FloatArray
) -> FloatArray:
    """Return the seconds of the network and of the gate."""
    bits_per_token = 8 * config.delay.bytes_per_token
    up_s = prompt * bits_per_token / (server.uplink_mbps * 1e6)
    down_s = output * bits_per_token / (server.downlink_mbps * 1e6)
    return np.asarray(up_s + down_s + server.round_trip_ms / 1e3 + config.delay.gate_s)


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
