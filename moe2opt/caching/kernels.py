"""Compiled inner loops of the replay: caches, prefetches and the link, token by token.

State that is one number per expert lives in two tables, so that few arrays are handed around:

* `ints`: position in the full and in the low cache (-1: not there), the step until which it is
  pinned, whether it was prefetched and not yet used (full, low), its next use (clairvoyant only),
  its layer;
* `reals`: last use (in tokens; fractions order the layers and ranks of a token), uses,
  high-precision uses, arrival of the copy in the full and in the low cache.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moe2opt.caching.trace import IdArray
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.jit import entry, inner, no_literal

#: Rows of `ints` and of `reals`.
INT_ROWS, REAL_ROWS = 7, 5
_LOCK, _UNUSED, _NEXT, _LAYER = (no_literal(n) for n in (2, 3, 5, 6))
_STAMP, _USES, _HIGH, _ARRIVAL = no_literal(0), no_literal(1), no_literal(2), no_literal(3)

#: How residents are chosen: by score, not at all, by their next use, by their last use.
SCORED, FIXED, CLAIRVOYANT, RECENT = range(4)
_FIXED, _CLAIRVOYANT, _RECENT = (no_literal(n) for n in (1, 2, 3))
_FULL, _LOW = no_literal(0), no_literal(1)
_NO, _YES = no_literal(0), no_literal(1)

#: Entries of `flow`: end of the last step, when the link is free, when the last prefetches were
#: asked for, when this step's gate spoke, when all its experts are there.
_CLOCK, _LINK, _ISSUED, _GATE, _READY = (no_literal(n) for n in range(5))
#: Entries of `counts`: uses in full, at low precision, experts to load.
_USED, _LOWS, _MISSING = (no_literal(n) for n in range(3))

ByteArray = npt.NDArray[np.uint8]

#: ints, reals, members ``(2, P, most slots)``, filled ``(2, P)``, prefetched ``(L, 3)``.
State = tuple[IntArray, FloatArray, IntArray, IntArray, IntArray]
#: rules ``(5,)``: mode, whether records restart with a sequence, whether contents do, experts per
#: layer, layers; weights of the score; caps ``(2, P)``; times.
Law = tuple[IntArray, FloatArray, IntArray, FloatArray]
#: Step, layer, token, token at which the records began.
Moment = tuple[int, int, float, float]


@inner
def _score(g: int, moment: Moment, law: Law, state: State) -> float:
    """Return how much an expert deserves its place.

    Its last use, minus its next use, or HOBBIT's eq. 3 times the number of tokens so far, which
    ranks in the same order without a division.
    """
    rules, weights, _, _ = law
    ints, reals, _, _, _ = state
    if rules[0] == _RECENT:
        return float(reals[_STAMP, g])
    if rules[0] == _CLAIRVOYANT:
        return float(-ints[_NEXT, g])
    _, layer, now, begin = moment
    ahead = ints[_LAYER, g] - layer
    if ahead < 0:
        ahead += rules[4]
    score = weights[0] * max(reals[_STAMP, g] - begin, 0.0)
    score += weights[1] * reals[_USES, g]
    score += weights[2] * reals[_HIGH, g]
    score += weights[3] * (now - begin + 1.0) / rules[4] * (rules[4] - ahead)
    return float(score)


@inner
def _victim(kind: int, pool: int, spare: int, moment: Moment, law: Law, state: State) -> int:
    """Return the member of lowest score, the longer unused of equals; -1 when all are pinned."""
    ints, reals, members, filled, _ = state
    best = -1
    least = 0.0
    for at in range(filled[kind, pool]):
        g = members[kind, pool, at]
        if spare > 0 and ints[_LOCK, g] >= moment[0]:
            continue
        worth = _score(g, moment, law, state)
        if best >= 0:
            other = members[kind, pool, best]
            older = reals[_STAMP, g] < reals[_STAMP, other]
            if worth > least or (worth == least and not older):
                continue
        best = at
        least = worth
    return best


@inner
def _leave(kind: int, pool: int, at: int, law: Law, state: State) -> None:
    """Take a member out; count it when it was prefetched in vain."""
    ints, _, members, filled, prefetched = state
    g = members[kind, pool, at]
    filled[kind, pool] -= 1
    last = members[kind, pool, filled[kind, pool]]
    members[kind, pool, at] = last
    ints[kind, last] = at
    ints[kind, g] = -1
    prefetched[g // law[0][3], 2] += ints[_UNUSED + kind, g]
    ints[_UNUSED + kind, g] = 0


@inner
def _enter(
    kind: int, pool: int, g: int, wanted: int, moment: Moment, law: Law, state: State
) -> bool:
    """Bring an expert in where there is room or something worth less to evict.

    What the present step uses or what is predicted stays if anything else can go; what is not yet
    `wanted` never drives it out.
    """
    rules, _, caps, _ = law
    ints, _, members, filled, _ = state
    if caps[kind, pool] == 0 or rules[0] == _FIXED:
        return False
    if filled[kind, pool] == caps[kind, pool]:
        at = -1
        if rules[0] != _CLAIRVOYANT:
            at = _victim(kind, pool, _YES, moment, law, state)
        if at < 0:
            if wanted == 0:
                return False
            at = _victim(kind, pool, _NO, moment, law, state)
            other = _score(members[kind, pool, at], moment, law, state)
            if other > _score(g, moment, law, state):
                return False
        _leave(kind, pool, at, law, state)
    members[kind, pool, filled[kind, pool]] = g
    ints[kind, g] = filled[kind, pool]
    filled[kind, pool] += 1
    return True


@inner
def _restart(
    row: int, now: int, initial: BoolArray, pools: IntArray, law: Law, state: State
) -> None:
    """Begin a sequence: forget records and contents where the rules say so, fill what is given."""
    rules, _, caps, _ = law
    ints, reals, members, filled, _ = state
    if rules[1]:
        for g in range(reals.shape[1]):
            reals[_USES, g] = 0.0
            reals[_HIGH, g] = 0.0
    if now > 0 and not rules[2]:
        return
    for kind in range(2):
        for pool in range(filled.shape[1]):
            while filled[kind, pool] > 0:
                _leave(kind, pool, filled[kind, pool] - 1, law, state)
    for g in range(initial.shape[1]):
        pool = pools[g // rules[3]]
        if initial[row, g] and filled[_FULL, pool] < caps[_FULL, pool]:
            members[_FULL, pool, filled[_FULL, pool]] = g
            ints[_FULL, g] = filled[_FULL, pool]
            filled[_FULL, pool] += 1
            reals[_ARRIVAL, g] = -1.0


@inner
def _prefetch(
    t: int,
    pool: int,
    ahead: IdArray,
    ahead_low: BoolArray,
    flow: FloatArray,
    moment: Moment,
    law: Law,
    state: State,
) -> None:
    """Bring in what was asked for one step ago, as far as the link has begun it by now."""
    rules, _, _, times = law
    ints, reals, _, _, prefetched = state
    layer = moment[1]
    at = max(flow[_LINK], flow[_ISSUED])
    for q in range(ahead.shape[2]):
        e = ahead[t, layer, q]
        if e < 0 or at >= flow[_GATE]:
            continue
        g = layer * rules[3] + e
        kind = _LOW if ahead_low[t, layer, q] else _FULL
        if ints[_FULL, g] >= 0 or ints[kind, g] >= 0:
            continue
        if _enter(kind, pool, g, _NO, moment, law, state):
            at += times[kind]
            flow[_LINK] = at
            reals[_ARRIVAL + kind, g] = at
            ints[_UNUSED + kind, g] = 1
            prefetched[layer, kind] += 1


@inner
def _look_up(
    t: int,
    experts: IdArray,
    classes: ByteArray,
    outcome: ByteArray,
    wait: IntArray,
    counts: IntArray,
    flow: FloatArray,
    moment: Moment,
    law: Law,
    state: State,
) -> None:
    """Find who is there, before anything is brought in, and note down every use."""
    ints, reals, _, _, _ = state
    step, layer, now, _ = moment
    top_k = experts.shape[2]
    counts[_USED] = counts[_LOWS] = counts[_MISSING] = 0
    for r in range(top_k):
        asked = classes[t, layer, r]
        g = layer * law[0][3] + experts[t, layer, r]
        kind = _FULL if ints[_FULL, g] >= 0 or asked == 0 else _LOW
        there = ints[kind, g] >= 0
        if asked == 3 or (asked == 2 and not there):
            outcome[t, layer, r] = 7 if asked == 3 else 6
            continue
        if there:
            arrival = reals[_ARRIVAL + kind, g]
            outcome[t, layer, r] = kind + (2 if arrival > flow[_GATE] else 0)
            flow[_READY] = max(flow[_READY], arrival)
            ints[_UNUSED + kind, g] = 0
        else:
            outcome[t, layer, r] = 4 + kind
            wait[counts[_MISSING]] = r
            counts[_MISSING] += 1
        reals[_STAMP, g] = now + (layer * top_k + r + 1.0) / (law[0][4] * top_k + 1.0)
        reals[_USES, g] += 1.0
        reals[_HIGH, g] += 1.0 if asked == 0 else 0.0
        ints[_LOCK, g] = max(ints[_LOCK, g], step)
        counts[_USED] += 1 - kind
        counts[_LOWS] += kind


@inner
def _protect(t: int, ahead: IdArray, moment: Moment, law: Law, state: State) -> None:
    """Pin what is predicted for the next step, lest this step's misses drive it out."""
    step, layer, _, _ = moment
    following = layer + 1 if layer + 1 < law[0][4] else 0
    when = t if following > 0 else t + 1
    if when >= len(ahead):
        return
    for q in range(ahead.shape[2]):
        e = ahead[when, following, q]
        if e >= 0:
            g = following * law[0][3] + e
            state[0][_LOCK, g] = max(state[0][_LOCK, g], step + 1)


@inner
def _load(
    t: int,
    pool: int,
    experts: IdArray,
    classes: ByteArray,
    wait: IntArray,
    missing: int,
    flow: FloatArray,
    moment: Moment,
    law: Law,
    state: State,
) -> None:
    """Copy what is missing, one after the other, and bring it in."""
    ints, reals, _, _, _ = state
    layer = moment[1]
    at = max(flow[_LINK], flow[_GATE])
    for m in range(missing):
        g = layer * law[0][3] + experts[t, layer, wait[m]]
        kind = _FULL if classes[t, layer, wait[m]] == 0 else _LOW
        at += law[3][kind]
        flow[_READY] = flow[_LINK] = at
        if _enter(kind, pool, g, _YES, moment, law, state):
            reals[_ARRIVAL + kind, g] = at
            if kind == _FULL and ints[_LOW, g] >= 0:
                _leave(_LOW, pool, ints[_LOW, g], law, state)


@entry
def replay_steps(
    experts: IdArray,
    classes: ByteArray,
    fresh: BoolArray,
    pools: IntArray,
    initial: BoolArray,
    nexts: IntArray,
    ahead: IdArray,
    ahead_low: BoolArray,
    law: Law,
    state: State,
    outcome: ByteArray,
    seconds: FloatArray,
) -> None:
    """Replay every token through every layer.

    Parameters
    ----------
    experts, classes
        ``(tokens, L, k)`` experts, and what is asked for on a miss: in full (0), at low precision
        (1), nothing (2); 3 for experts that are not wanted at all.
    fresh
        ``(tokens,)`` whether a sequence begins.
    pools
        ``(L,)`` cache of each layer.
    initial
        ``(1 or S, L * E)`` what is there at the start of every sequence (at the first only when
        contents are kept).
    nexts
        ``(tokens, L, k)`` next use of each expert, for the clairvoyant mode; else of length 0.
    ahead, ahead_low
        ``(tokens, L, m)`` experts predicted for a step when the one before begins, -1 for none,
        and whether they are wanted at low precision.
    law
        Rules, weights, caps and times (copy, low copy, use, low use, rest of a layer; seconds).
    state
        ints, reals, members, filled, prefetched; positions -1, layers as they are, all else 0.
    outcome, seconds
        Results: ``(tokens, L, k)`` outcome of each expert, ``(tokens,)`` time.
    """
    rules, _, _, times = law
    wait = np.zeros(experts.shape[2], dtype=np.int64)
    counts = np.zeros(3, dtype=np.int64)
    flow = np.zeros(5)
    begin = 0.0
    row = -1
    for t in range(len(experts)):
        if fresh[t]:
            row = min(row + 1, len(initial) - 1)
            begin = float(t) if rules[1] else begin
            _restart(row, t, initial, pools, law, state)
        started = flow[_CLOCK]
        for layer in range(experts.shape[1]):
            moment = (t * experts.shape[1] + layer + 1, layer, float(t), begin)
            pool = pools[layer]
            flow[_GATE] = flow[_READY] = flow[_CLOCK] + times[4]
            _prefetch(t, pool, ahead, ahead_low, flow, moment, law, state)
            _look_up(t, experts, classes, outcome, wait, counts, flow, moment, law, state)
            if len(nexts):
                for r in range(experts.shape[2]):
                    state[0][_NEXT, layer * rules[3] + experts[t, layer, r]] = nexts[t, layer, r]
            _protect(t, ahead, moment, law, state)
            _load(t, pool, experts, classes, wait, counts[_MISSING], flow, moment, law, state)
            flow[_ISSUED] = flow[_GATE]
            flow[_CLOCK] = flow[_READY] + counts[_USED] * times[2] + counts[_LOWS] * times[3]
        seconds[t] = flow[_CLOCK] - started
