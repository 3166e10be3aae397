"""What answers of one expert take: measured where somebody measured it, predicted elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.profiles.predicting.answer import PHASES, Answer
from moe2opt.profiles.predicting.request import Load
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.measured.cells import Cells, Measured, whole_or_parts
from moe2opt.selection.outcomes.tables import ClusterTables
from moe2opt.selection.sections import SelectionConfig, Server

#: Categories that a gap names before the rest is only counted.
_MOST_NAMES = 3

#: What a measured table may lack, prompt and output apart, as the profiles call it.
_MEASURED_PHASES = ("prefill", "decode", "prefill_energy", "decode_energy")

_J_PER_KWH = 3.6e6

#: What looks up a quantity for every row: numbers, and how specific they are.
_Look = Callable[[str], tuple[FloatArray, IntArray]]

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
    busy_s, delay_s, joules, money
        ``(R,)`` seconds of work on the server, seconds until the answer is there, joules, and
        money in the configuration's currency.
    gaps
        What no measured table says, in words; a table that does not exist says nothing.
    load
        The expert as the profiles see it; None where nothing is predicted.
    money_per_hour
        Money per hour while the expert is deployed, besides that of its server.
    foreign
        Whether it is an LLM of somebody else, of which nothing can be predicted.
    phases
        What of it is predicted, in the words of `moe2opt.profiles.predicting.answer.PHASES`.
    """

    busy_s: FloatArray
    delay_s: FloatArray
    joules: FloatArray
    money: FloatArray
    gaps: dict[str, str]
    load: Load | None
    phases: tuple[str, ...] = PHASES
    money_per_hour: float = 0.0
    foreign: bool = False

    @property
    def basis(self) -> str:
        """Where its figures come from: ``measured``, ``predicted``, or what of them is."""
        if not self.gaps:
            return "measured"
        if self.foreign:
            return f"measured; not known: {', '.join(self.gaps.values())}"
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
    joules = answer.joules(quantile)
    money = running_money(config, server, busy_s, joules)
    gaps = {"seconds": "seconds", "joules": "joules"}
    return Cost(busy_s, delay_s, joules, money, gaps, answer.load)


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
    look, lengths = _looks(traffic, m, cells)
    busy_s, no_s, whole = _whole(look, "seconds", ("prefill_s", "decode_s"), lengths)
    joules, no_j, _ = _whole(look, "joules", ("prefill_j", "decode_j"), lengths)
    money, _ = _price(look, lengths)
    load = None
    if any(mask.any() for mask in (*no_s, *no_j)):
        answer, quantile = predict(*lengths), config.robust.level if config.robust else None
        load = answer.load
        busy_s = _filled(busy_s, no_s, answer.phase_seconds(quantile))
        joules = _filled(joules, no_j, answer.phase_joules(quantile))
    added_s = network_s(config, server, *lengths)
    if measured.includes_network:
        added_s = np.where(whole, config.delay.gate_s, added_s)
    gaps = _gaps(("seconds", no_s), ("joules", no_j), categories=traffic.categories)
    money = money + running_money(config, server, busy_s, joules)
    missing = dict(zip(_MEASURED_PHASES, (*no_s, *no_j), strict=True))
    phases = tuple(phase for phase in PHASES if missing[phase].any())
    hourly = cells.general.get("money_hour", 0.0)
    return Cost(busy_s, busy_s + added_s, joules, money, gaps, load, phases, hourly)


def foreign_cost(config: SelectionConfig, traffic: Traffic, m: int, cells: Cells) -> Cost:
    """Return what answers of an API take: what is measured, and 0 of what nobody knows.

    Its work is done on machines of others, so no server of ours is busy.
    """
    look, lengths = _looks(traffic, m, cells)
    delay_s, no_s, _ = _whole(look, "seconds", ("prefill_s", "decode_s"), lengths)
    joules, no_j, _ = _whole(look, "joules", ("prefill_j", "decode_j"), lengths)
    money, no_money = _price(look, lengths)
    gaps = _gaps(
        ("seconds", no_s),
        ("joules", no_j),
        ("price", [no_money, no_money]),
        categories=traffic.categories,
    )
    hourly = cells.general.get("money_hour", 0.0)
    late_s = delay_s + config.delay.gate_s
    return Cost(np.zeros(len(late_s)), late_s, joules, money, gaps, None, (), hourly, True)


def running_money(
    config: SelectionConfig, server: Server, busy_s: FloatArray, joules: FloatArray
) -> FloatArray:
    """Return what a server of ours costs while it answers: its busy hours and its electricity."""
    money = np.zeros(len(busy_s))
    if server.billed == "busy":
        money = money + busy_s * (server.money_per_hour / 3600)
    if config.money is not None and config.money.per_kwh:
        money = money + joules * (config.money.per_kwh / _J_PER_KWH)
    return money


def _price(look: _Look, lengths: Sequence[FloatArray]) -> tuple[FloatArray, BoolArray]:
    """Return ``(R,)`` prices by the table, and where it states none.

    A price per request is paid besides those of tokens; parts without a price cost nothing where
    another one has.
    """
    ones = np.ones(len(lengths[0]))
    parts = ("money_request", "money_prefill", "money_decode")
    money, missing, _ = _whole(look, "money", parts, (ones, *lengths))
    return money, np.logical_and.reduce(missing)


def _looks(traffic: Traffic, m: int, cells: Cells) -> tuple[_Look, tuple[FloatArray, FloatArray]]:
    """Return what looks up a quantity for every row, and the lengths of prompts and answers."""

    def look(quantity: str) -> tuple[FloatArray, IntArray]:
        return cells.look(quantity, traffic.categories, traffic.prompts)

    def length(quantity: str, otherwise: FloatArray) -> FloatArray:
        value, level = look(quantity)
        return np.where(level > 0, value, otherwise)

    prompt = length("prompt_tokens", traffic.prompt_tokens)
    return look, (prompt, length("output_tokens", traffic.output_tokens[:, m]))


def _whole(
    look: _Look, whole: str, parts: Sequence[str], amounts: Sequence[FloatArray]
) -> tuple[FloatArray, list[BoolArray], BoolArray]:
    return whole_or_parts(look(whole), [look(part) for part in parts], amounts)


def _gaps(*missing: tuple[str, Sequence[BoolArray]], categories: Sequence[str]) -> dict[str, str]:
    """Return what is missing of each quantity in words."""
    found = {name: _gap_words(name, masks, categories) for name, masks in missing}
    return {name: words for name, words in found.items() if words}


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
        "price": "usd_per_prompt",
    }
    return next(column for start, column in columns.items() if gap.startswith(start))


def network_s(
    config: SelectionConfig, server: Server, prompt: FloatArray, output: FloatArray
) -> FloatArray:
    """Return the seconds of the network and of the gate."""
    assert server.uplink_mbps is not None and server.downlink_mbps is not None
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
