r"""Rows for what each device is worth with a run of layers: they rule nothing out, and bound all.

A linear relaxation mixes a card of no layers and seven experts with one of nine layers and six,
and a split of half a layer. Let :math:`W_d(t, t')` be the most that a device saves with the layers
from :math:`t` to :math:`t'`, at prices that devices pay each other for the rests of split experts,
and

.. math:: \varphi_{d+1}(t') = \max_t \{ \varphi_d(t) + W_d(t, t') \}

what the devices up to a cut save at most, a dynamic program over cards and cuts. In every plan

.. math:: \text{saved by } d + \varphi_d(t_d) - \varphi_{d+1}(t_{d+1}) \le 0,

whatever the prices, and these rows add up to the bound of the dynamic program. Each of them is
about one device, and its right side the greatest left one of all that it may hold. Without them
eight equal cards of 8 GiB are 3.6 % from their bound after 15 s; with them, 0.1 % at the root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linprog

from moe2opt.place.case import Case, Variant
from moe2opt.place.contents import Contents, Prices, Runs, pieces_of, room_of
from moe2opt.place.machine import HOP_S
from moe2opt.place.options import split_value_s
from moe2opt.place.rows import Rows
from moe2opt.result import FloatArray, IntArray

#: Devices from which on the rows are worth their room.
_LEAST_DEVICES = 2

#: Dynamic programs that look for prices.
_ROUNDS = 40

#: Share of what a chain saves by which better prices might make it save less at the end.
_CLOSE = 1e-5

#: Contents times runs of one device up to which they are all tried.
_MOST_CELLS = 2_000_000

#: Share of a limit, and more, by which sums of parts may differ from it by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """What the devices up to each cut save at most, and the contents of the best chain.

    Attributes
    ----------
    saved
        ``(blocks + 1,)`` for the cut before every device, and after the last one.
    contents
        The content and the kind of run of each device.
    """

    saved: tuple[FloatArray, ...]
    contents: tuple[tuple[int, int], ...]


def run_rows(case: Case, rows: Rows) -> None:
    """Add what each device is worth at most with the layers between its cuts."""
    main = rows.variants[0]
    count = len(case.machine.devices)
    if not case.classes or count < _LEAST_DEVICES or not (main.offloads and main.copies):
        return
    layers = [members[0] for members in case.classes]
    runs = Runs.of(case, main.ubatch)
    tables = [
        Contents(pieces_of(case, d, main.ubatch, layers), runs, room_of(case, main, d), count - 1)
        for d in range(count)
    ]
    if max(len(own.split) for own in tables) * len(runs.sizes) > _MOST_CELLS:
        return
    prices = _prices(case, tables)
    chain = chained_at(case, tables, prices)
    if not all(np.isfinite(saved).all() for saved in chain.saved):
        return  # what some device computes with has no room on it
    for d in range(count):
        _add(case, rows, d, main, prices, chain)


def chained_at(case: Case, tables: Sequence[Contents], prices: Prices) -> Chain:
    """Return what devices save with their runs of layers at prices, by dynamic programming."""
    ahead, saved, steps = -case.home_seconds(None, min(case.config.ubatch)), [], []
    known: dict[tuple[float, ...], tuple[FloatArray, IntArray]] = {}
    for d, own in enumerate(tables):
        saved.append(ahead)
        if own.key not in known:
            values = own.saved(prices)
            known[own.key] = values.max(axis=0), values.argmax(axis=0)
        best, content = known[own.key]
        kind = own.runs.kind
        worth = np.where(kind >= 0, best[kind], -np.inf) - case.homes_s(d)
        total = ahead[:, None] + worth
        came = total.argmax(axis=0)
        steps.append((came, content, kind))
        ahead = total[came, np.arange(len(came))]
    end, found = case.model.blocks, []
    for came, content, kind in reversed(steps):
        start = int(came[end])
        found.append((int(content[kind[start, end]]), int(kind[start, end])))
        end = start
    return Chain((*saved, ahead), tuple(reversed(found)))


def _prices(case: Case, tables: Sequence[Contents]) -> Prices:
    """Return prices at which the best chain saves least, by cutting planes (Kelley 1960).

    A rest that more devices hand over than take is worth less, and experts cost where more than
    there are would be on devices. The search begins with rests at their share of an expert.
    """
    most, own = sum(map(len, case.classes)), max((t.pieces for t in tables), key=lambda p: p.home)
    kinds, gain = len(own.rest), max(own.home, 0.0)
    price, best, least = np.append(gain * own.rest / own.size, 0.0), Prices(np.zeros(kinds)), np.inf
    planes, limits = [], []
    for _ in range(_ROUNDS):
        tried = Prices(price[:kinds], float(price[kinds]))
        chain = chained_at(case, tables, tried)
        value = float(chain.saved[-1][-1]) + most * tried.expert
        if not np.isfinite(value):
            break  # some device has no room for what it computes with, whatever the prices
        if value < least:
            best, least = tried, value
        slope = np.zeros(kinds + 1)
        for table, (content, kind) in zip(tables, chain.contents, strict=True):
            slope[:kinds] += table.sent[content] - table.rests[content]
            slope[kinds] -= table.home[content, kind] + table.away[content, kind]
            slope[kinds] -= table.rests[content].sum()
        slope[kinds] += most
        planes.append(np.append(slope, -1.0))
        limits.append(float(slope @ price) - value)
        bounds = [*[(-gain, 2 * gain)] * kinds, (0.0, gain), (None, None)]
        found = linprog(np.append(np.zeros(kinds + 1), 1.0), planes, limits, bounds=bounds)
        if found.x is None or found.x[-1] > least - _CLOSE * abs(least):
            break
        price = found.x[:-1]
    return best


def _add(case: Case, rows: Rows, d: int, main: Variant, prices: Prices, chain: Chain) -> None:
    """Add the row of one device."""
    before, after = chain.saved[d], chain.saved[d + 1]
    count, blocks = len(case.machine.devices), case.model.blocks
    most = _most(case, rows, d, prices, before, after)
    own = rows.add(f"worth of {case.machine.devices[d].name} with its run of layers", 0.0)
    own[0][:] = -most
    seconds = case.home_seconds(case.machine.devices[d], main.ubatch)
    own[1][d] = before + seconds
    if d + 1 < count:
        own[1][d + 1] = -after - seconds
    else:
        rows.limits[-1] += after[blocks] + seconds[blocks]
    for c, members in enumerate(case.classes):
        in_ram = case.expert_seconds(members[0], None, main.ubatch)
        here = case.expert_seconds(members[0], case.machine.devices[d], main.ubatch)
        for s, site in enumerate(rows.sites):
            if site.device == d:
                own[2][c, s] = in_ram - here - 2 * HOP_S * site.away - prices.expert
    for s, split in enumerate(rows.splits):
        if split.kind >= 0 and split.to != d:
            price = prices.rests[split.kept - 1] if split.to >= 0 else 0.0
            own[3][d, s] = split_value_s(case, d, split) + price
        elif split.kind >= 0:
            own[3][np.arange(count) != d, s] = -prices.rests[split.kept - 1]
    _raise(case, rows)


def _raise(case: Case, rows: Rows) -> None:
    """Raise the last row so that nothing in it is negative, scale it, and leave room to round."""
    variant, cut, expert, split = (
        kind[-1] for kind in (rows.variant, rows.cut, rows.expert, rows.split)
    )
    sizes = np.array([len(members) for members in case.classes])
    for own, times in ((variant[None, :], 1), (cut, 1), (expert, sizes), (split, 1)):
        if own.size:
            least = own.min(axis=1)
            own -= least[:, None]
            rows.limits[-1] -= float((least * times).sum())
    scale = 1.0 / max(own.max(initial=0.0) for own in (cut, expert, split))
    for own in (variant, cut, expert, split):
        own *= scale
    rows.limits[-1] *= scale
    rows.limits[-1] += _ROUNDING * (1.0 + abs(rows.limits[-1]))


def _most(
    case: Case, rows: Rows, d: int, prices: Prices, before: FloatArray, after: FloatArray
) -> FloatArray:
    """Return the ``(V,)`` most that a device is worth between any two cuts, by variant."""
    layers, count = [members[0] for members in case.classes], len(case.machine.devices)
    tables, known, found = dict[int, Contents](), dict[tuple[int, float], float](), []
    for ubatch in case.config.ubatch:
        pieces = pieces_of(case, d, ubatch, layers)
        tables[ubatch] = Contents(pieces, Runs.of(case, ubatch), 0.0, count - 1)
    for variant in rows.variants:
        key = variant.ubatch, room_of(case, variant, d)
        if key not in known:
            own = replace(tables[variant.ubatch], room=key[1])
            best, kind = own.saved(prices).max(axis=0), own.runs.kind
            total = np.where(kind >= 0, best[kind], -np.inf) - case.homes_s(d)
            total = total + before[:, None] - after[None, :]
            known[key] = float((total[:, -1] if d + 1 == count else total).max())
        found.append(known[key])
    # Of a variant that has no room here nothing need be said.
    return np.where(np.isfinite(found), found, 0.0)
