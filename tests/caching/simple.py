"""Straightforward simulations in plain Python, written without the package's replay.

`lru` is the textbook cache; `naive` follows every copy through caches and link one by one;
`farthest` is the clairvoyant cache that looks its next uses up in lists.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from moe2opt.caching.trace import ExpertTrace

Id = tuple[int, int]


def sequences(trace: ExpertTrace) -> Iterator[tuple[int, bool, list[list[int]]]]:
    """Yield position, whether a sequence begins, and the experts of every layer of each token."""
    starts = set(trace.starts.tolist())
    for t, token in enumerate(trace.experts.tolist()):
        yield t, t in starts, token


def lru(trace: ExpertTrace, slots: Any, between: str) -> int:
    """Return the hits of LRU caches; `slots` is a number per layer, or one for all together."""
    caches: dict[int, OrderedDict[Id, None]] = defaultdict(OrderedDict)
    hits = 0
    for _, fresh, token in sequences(trace):
        if fresh and between == "empty":
            caches.clear()
        for layer, experts in enumerate(token):
            at, room = (layer, slots[layer]) if isinstance(slots, list) else (0, slots)
            cache = caches[at]
            hits += sum((layer, e) in cache for e in experts)
            for e in experts:
                cache[(layer, e)] = None
                cache.move_to_end((layer, e))
            while len(cache) > room:
                cache.popitem(last=False)
    return hits


def farthest(trace: ExpertTrace, slots: Any, between: str) -> int:
    """Return the hits of caches that keep whatever is used soonest."""
    uses: dict[Id, list[int]] = defaultdict(list)
    number = -1
    of_step: list[int] = []
    for t, fresh, token in sequences(trace):
        number += fresh
        for layer, experts in enumerate(token):
            of_step.append(number)
            for e in experts:
                uses[(layer, e)].append(t * trace.n_layers + layer)

    def following(name: Id, step: int) -> float:
        k = bisect_right(uses[name], step)
        if k == len(uses[name]):
            return float("inf")
        after = uses[name][k]
        apart = between == "empty" and of_step[after] != of_step[step]
        return float("inf") if apart else after

    caches: dict[int, set[Id]] = defaultdict(set)
    hits = 0
    for t, fresh, token in sequences(trace):
        if fresh and between == "empty":
            caches.clear()
        for layer, experts in enumerate(token):
            at, room = (layer, slots[layer]) if isinstance(slots, list) else (0, slots)
            step = t * trace.n_layers + layer
            wanted = {(layer, e) for e in experts}
            hits += len(wanted & caches[at])
            soonest = sorted(caches[at] | wanted, key=lambda name: following(name, step))
            caches[at] = set(soonest[:room])
    return hits


def static(trace: ExpertTrace, resident: Any) -> int:
    """Return the hits of residents that never change."""
    return sum(
        bool(resident[layer][e])
        for token in trace.experts.tolist()
        for layer, experts in enumerate(token)
        for e in experts
    )


Worth = Callable[["Naive", Id], Any]


class Naive:
    """Caches, prefetches and a link, one copy at a time.

    Full and low copies live in dictionaries from expert to arrival, one per cache.
    """

    def __init__(
        self,
        trace: ExpertTrace,
        *,
        pool: Callable[[int], int],
        rooms: Any,
        worth: Worth,
        times: Any = (0.0, 0.0, 0.0, 0.0, 0.0),
        classes: Any = None,
        ahead: Any = None,
        between: str = "kept",
        per_sequence: bool = False,
    ) -> None:
        self.trace, self.pool, self.rooms, self.worth = trace, pool, rooms, worth
        self.times, self.classes, self.ahead = times, classes, ahead
        self.between, self.per_sequence = between, per_sequence
        self.caches: Any = defaultdict(dict)
        self.last: dict[Id, float] = {}
        self.uses: Counter[Id] = Counter()
        self.high: Counter[Id] = Counter()
        self.counts: Counter[str] = Counter()
        self.begin = self.now = self.layer = 0
        self.clock = self.link = self.asked_at = 0.0
        self.seconds: list[float] = []
        self.pinned: set[Id] = set()

    def run(self) -> Naive:
        """Replay every token."""
        for t, fresh, token in sequences(self.trace):
            self.now = t
            if fresh:
                self.restart()
            before = self.clock
            for layer, experts in enumerate(token):
                self.layer = layer
                self.step(t, layer, experts)
            self.seconds.append(self.clock - before)
        return self

    def restart(self) -> None:
        """Begin a sequence."""
        if self.per_sequence:
            self.begin = self.now
            self.uses.clear()
            self.high.clear()
        if self.between == "empty":
            self.caches.clear()

    def predicted(self, t: int, layer: int) -> list[tuple[Id, str]]:
        """Return the guesses for a step with their precision."""
        if self.ahead is None or t >= self.trace.tokens:
            return []
        pairs = zip(
            self.ahead.experts[t, layer].tolist(), self.ahead.low[t, layer].tolist(), strict=True
        )
        return [((layer, e), "low" if low else "full") for e, low in pairs if e >= 0]

    def step(self, t: int, layer: int, experts: list[int]) -> None:
        """Prefetch, look up, copy what is missing, compute."""
        pool = self.pool(layer)
        gate = self.clock + self.times[4]
        guesses = self.predicted(t, layer)
        self.pinned = {name for name, _ in guesses}
        free = max(self.link, self.asked_at)
        for name, kind in guesses:
            there = name in self.caches["full", pool] or name in self.caches[kind, pool]
            if free < gate and not there and self.enter(kind, pool, name, forced=False):
                free = self.link = free + self.times[kind == "low"]
                self.caches[kind, pool][name] = free
                self.counts["prefetched"] += 1
        ready, work, missing = gate, 0.0, []
        asked = [0] * len(experts) if self.classes is None else self.classes[t, layer].tolist()
        for rank, (e, want) in enumerate(zip(experts, asked, strict=True)):
            name = (layer, e)
            kind = "full" if name in self.caches["full", pool] or want == 0 else "low"
            arrival = self.caches[kind, pool].get(name)
            if want == 3:
                self.counts["dropped"] += 1
                continue
            if want == 2 and arrival is None:
                self.counts["skipped"] += 1
                continue
            if arrival is None:
                missing.append((kind, name))
            else:
                self.counts["late" if arrival > gate else "hit"] += 1
                ready = max(ready, arrival)
            order = layer * len(experts) + rank + 1
            self.last[name] = t + order / (self.trace.n_layers * len(experts) + 1)
            self.uses[name] += 1
            self.high[name] += want == 0
            self.pinned.add(name)
            work += self.times[2 + (kind == "low")]
        following = (t, layer + 1) if layer + 1 < self.trace.n_layers else (t + 1, 0)
        self.pinned |= {name for name, _ in self.predicted(*following)}
        free = max(self.link, gate)
        for kind, name in missing:
            free += self.times[kind == "low"]
            ready = self.link = free
            self.counts["loaded " + kind] += 1
            if self.enter(kind, pool, name, forced=True):
                self.caches[kind, pool][name] = free
                if kind == "full":
                    self.caches["low", pool].pop(name, None)
        self.asked_at = gate
        self.clock = ready + work

    def enter(self, kind: str, pool: int, name: Id, *, forced: bool) -> bool:
        """Bring a copy in, evicting what is worth least among what may go."""
        cache, room = self.caches[kind, pool], self.rooms[kind][pool]
        if room == 0:
            return False
        if len(cache) == room:
            loose = [other for other in cache if other not in self.pinned]
            if not loose and not forced:
                return False

            def rank(other: Id) -> Any:
                return self.worth(self, other), self.last.get(other, 0.0)

            victim = min(loose or cache, key=rank)
            if not loose and self.worth(self, victim) > self.worth(self, name):
                return False
            del cache[victim]
        cache[name] = 0.0
        return True


def recency(state: Naive, name: Id) -> float:
    """Return the last use."""
    return state.last.get(name, 0.0)


def frequency(state: Naive, name: Id) -> int:
    """Return the uses."""
    return state.uses[name]


def priority(weights: Any) -> Worth:
    """Return HOBBIT's eq. 3."""

    def worth(state: Naive, name: Id) -> float:
        span = state.now - state.begin + 1
        layers = state.trace.n_layers
        recent = max(state.last.get(name, 0.0) - state.begin, 0.0)
        terms = (
            recent / span,
            state.uses[name] / span,
            state.high[name] / span,
            1 - (name[0] - state.layer) % layers / layers,
        )
        return sum(w * term for w, term in zip(weights, terms, strict=True))

    return worth
