"""What ``llama-server --fit on`` would decide: its own search, over the bytes that it measures.

Source: `common_params_fit_impl` of llama.cpp (common/fit.cpp, with a context that is given). It
fills devices with layers whose experts are in RAM, the last device first, by the method of false
position; then it turns them into whole layers, the first device first, and lets part of one more
layer overflow to the next device or to RAM. Speed is no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from moe2opt.llamacpp.layout import CPU, Layout, experts_in_ram, homes_of
from moe2opt.llamacpp.line import Line
from moe2opt.llamacpp.memory import Backend, memory_of
from moe2opt.llamacpp.model import LlamaModel

#: Matrices of a layer's experts that overflow, by how much of the layer stays.
_OVERFLOWS = {
    "attention": ("up", "gate", "gate_up", "down"),
    "up": ("gate", "gate_up", "down"),
    "gate": ("down",),
}


@dataclass(frozen=True, slots=True)
class Share:
    """What a device is given.

    Attributes
    ----------
    layers
        Units in all; the output is the last one.
    partial
        How many of them, the last ones, hold no experts or a part of them.
    overflow
        What of the first partial one stays.
    """

    layers: int = 0
    partial: int = 0
    overflow: str = "attention"

    @property
    def full(self) -> int:
        """Units with all their experts."""
        return self.layers - self.partial


@dataclass(frozen=True, slots=True)
class _State:
    shares: tuple[Share, ...]
    spills: tuple[int, ...]
    bytes: tuple[int, ...] = ()

    def given(self, device: int, share: Share) -> _State:
        shares = list(self.shares)
        shares[device] = share
        return replace(self, shares=tuple(shares))


@dataclass(frozen=True)
class _Fit:
    model: LlamaModel
    line: Line
    targets: Sequence[float]
    backend: Backend

    @property
    def count(self) -> int:
        return len(self.targets)

    # ------------------------------------------------------------------ layouts and their bytes

    def layout(self, state: _State) -> Layout:
        units = self.model.blocks + 1
        on_devices = sum(share.layers for share in state.shares)
        homes = [CPU] * (units - on_devices)
        experts: dict[int, dict[str, int]] = {}
        for d, share in enumerate(state.shares):
            first = len(homes) + share.full
            homes += [d] * share.layers
            for block in range(first, first + share.partial):
                spill = state.spills[d] if block == first else CPU
                kind = share.overflow if block == first else "attention"
                experts |= self._moved(block, kind, spill)
        return Layout(tuple(homes), experts)

    def _moved(self, block: int, kind: str, place: int) -> dict[int, dict[str, int]]:
        own = next((x for x in self.model.layers if x.index == block), None)
        if own is None or not own.experts:
            return {}
        return {block: {m: place for m in own.experts if m in _OVERFLOWS[kind]}}

    def measured(self, state: _State) -> _State:
        """Return a state with the bytes of its devices, as the runtime would measure them."""
        return replace(state, bytes=self.bytes_of(self.layout(state)))

    def bytes_of(self, layout: Layout) -> tuple[int, ...]:
        held = memory_of(self.model, self.line, layout, self.count, self.backend)
        return tuple(int(own.total_bytes) for own in held[:-1])

    # ------------------------------------------------------------------ the search

    def dense_first(self, state: _State) -> _State:
        """Fill devices with layers without experts, the last device first."""
        for d in range(self.count - 1, -1, -1):
            left = self.model.blocks + 1 - sum(share.layers for share in state.shares[d + 1 :])
            last = d == self.count - 1
            if left == 0:
                continue
            partial = (left - last) if self.model.experts else 0
            high = self.measured(state.given(d, Share(left, partial)))
            if high.bytes[d] <= self.targets[d]:
                state = high
                continue
            while (delta := high.shares[d].layers - state.shares[d].layers) > 1:
                own, step = state.shares[d], self._step(state, high, d, delta)
                partial = 0
                if self.model.experts:
                    partial = own.partial + step - (last and own.partial == 0)
                test = self.measured(state.given(d, Share(own.layers + step, partial)))
                if test.bytes[d] <= self.targets[d]:
                    state = test
                else:
                    high = test
        return state

    def _step(self, low: _State, high: _State, d: int, delta: int) -> int:
        room = high.bytes[d] - low.bytes[d]
        free = self.targets[d] - low.bytes[d]
        step = int(delta * free / room) if room > 0 and free >= 0 else delta - 1
        return min(max(step, 1), delta - 1)

    def whole(self, state: _State) -> _State:
        """Turn layers without experts into whole ones, the first device first."""
        start = min(d for d in range(self.count) if state.shares[d].layers)
        d = 0
        while d <= start < self.count:
            state, start = self._filled(state, d, start)
            state, start = self._one_more(state, d, start)
            d += 1
        return state

    def _filled(self, state: _State, d: int, start: int) -> tuple[_State, int]:
        high = state
        for e in range(start, self.count):
            given = high.shares[e].layers - (e == self.count - 1)
            high = high.given(d, replace(high.shares[d], layers=high.shares[d].layers + given))
            high = high.given(e, replace(high.shares[e], layers=high.shares[e].layers - given))
            high = high.given(e, replace(high.shares[e], partial=0))
        high, high_start = self.measured(high), self.count - 1
        if high.bytes[d] <= self.targets[d]:
            return high, high_start
        while (delta := high.shares[d].full - state.shares[d].full) > 1:
            step = self._step(state, high, d, delta)
            test, test_start = self._converted(state, d, start, step)
            test = self.measured(test)
            if test.bytes[d] <= self.targets[d]:
                state, start = test, test_start
            else:
                high = test
        return state, start

    def _converted(self, state: _State, d: int, start: int, step: int) -> tuple[_State, int]:
        """Return a state with so many partial layers of later devices as whole ones of `d`."""
        done = 0
        while start < self.count:
            taken = min(step - done, state.shares[start].partial)
            own = state.shares[start]
            less = replace(own, layers=own.layers - taken, partial=own.partial - taken)
            state = state.given(start, less)
            more = state.shares[d]
            state = state.given(d, replace(more, layers=more.layers + taken))
            done += taken
            if state.shares[start].partial > 0:
                break
            start += 1
        return state, start

    def _one_more(self, state: _State, d: int, start: int) -> tuple[_State, int]:
        """Let a part of one more layer stay on a device."""
        if start >= self.count or state.shares[start].layers <= (d >= self.count - 1):
            return state, start
        from_, last = state.shares[start], d == self.count - 1
        less = replace(from_, layers=from_.layers - 1, partial=from_.partial - 1)
        test = state.given(start, less)
        more = test.shares[d]
        spills = list(state.spills)
        if not last:
            spills[d] = d + 1
        test_start = start + (less.partial == 0)

        def with_part(kind: str) -> _State | None:
            own = Share(more.layers + 1, more.partial + 1, kind)
            tried = self.measured(replace(test.given(d, own), spills=tuple(spills)))
            return tried if self._fits(tried, d) else None

        up = with_part("up")
        best = with_part("attention") if up is None else with_part("gate") or up
        return (state, start) if best is None else (best, test_start)

    def _fits(self, state: _State, d: int) -> bool:
        return all(state.bytes[e] < self.targets[e] for e in (d, d + 1) if e < self.count)


def fitted(
    model: LlamaModel,
    line: Line,
    free_bytes: Sequence[float],
    margins_bytes: Sequence[float],
    backend: Backend,
) -> Layout:
    """Return the layout that ``--fit on`` would choose for a context that is given.

    Parameters
    ----------
    free_bytes, margins_bytes
        Per device, what is free of it, and what is to stay free (``-fitt``).
    backend
        What computes.
    """
    targets = [free - margin for free, margin in zip(free_bytes, margins_bytes, strict=True)]
    fit = _Fit(model, line, targets, backend)
    everything = Layout(homes_of(model.blocks, free_bytes))
    if all(own <= room for own, room in zip(fit.bytes_of(everything), targets, strict=True)):
        return everything
    count = len(targets)
    state = fit.measured(_State((Share(),) * count, (CPU,) * count))
    state = fit.dense_first(state)
    if model.experts and any(share.layers for share in state.shares):
        moved = Layout(everything.homes, experts_in_ram(model, model.blocks))
        if sum(targets) > sum(fit.bytes_of(moved)):
            state = fit.whole(state)
    return fit.layout(state)


def shares_of(layout: Layout, count: int) -> Iterator[tuple[int, int]]:
    """Yield how many units each device holds, and how many of them without all their experts."""
    for d in range(count):
        own = [block for block, home in enumerate(layout.homes) if home == d]
        yield len(own), sum(bool(layout.experts.get(block)) for block in own)
