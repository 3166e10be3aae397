"""What a layout costs: seconds and bytes from its own layers, not from the problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from moe2opt.llamacpp import CPU, DeviceMemory, Layout, LlamaLayer, memory_of
from moe2opt.place.case import COMPUTE_MARGIN, Case, Variant
from moe2opt.place.machine import HOP_S, Device


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens per second, and the interval in which a new run lies nine times out of ten."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return JSON-ready content."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges layouts of one case."""

    case: Case

    def memory(self, layout: Layout, ubatch: int) -> list[DeviceMemory]:
        """Return the bytes of each device, and last of RAM."""
        case = self.case
        count = len(case.machine.devices)
        held = memory_of(case.model, case.line(ubatch), layout, count, case.backend)
        if not self.used(layout):
            # The line keeps the runtime from all devices, which would get what is copied.
            held[:-1] = [replace(own, compute_bytes=0.0) for own in held[:-1]]
        return held

    def margin_bytes(self, held: DeviceMemory, device: int) -> float:
        """Return what a device keeps free: its margin and that of its compute buffer."""
        return (
            self.case.machine.devices[device].margin_bytes
            + (COMPUTE_MARGIN - 1) * held.compute_bytes
        )

    def faults(self, layout: Layout, ubatch: int) -> list[str]:
        """Return what does not fit, a line each."""
        machine, found, used = self.case.machine, [], self.used(layout)
        *held, ram = self.memory(layout, ubatch)
        for d, own in enumerate(held):
            device = machine.devices[d]
            over = own.total_bytes + self.margin_bytes(own, d) - device.capacity_bytes
            if d in used and over > 0:
                found.append(f"{device.name} lacks {over / 2**20:,.0f} MiB")
        over = ram.total_bytes - (machine.ram_bytes or float("inf"))
        if over > 0:
            found.append(f"RAM lacks {over / 2**20:,.0f} MiB")
        if machine.pool_bytes is not None:
            taken = ram.total_bytes + sum(
                own.total_bytes + self.margin_bytes(own, d)
                for d, own in enumerate(held)
                if d in used
            )
            if taken > machine.pool_bytes:
                over = taken - machine.pool_bytes
                found.append(f"the memory that all share lacks {over / 2**20:,.0f} MiB")
        return found

    def has_room(self, layout: Layout, ubatch: int) -> bool:
        """Tell whether a layout fits with all that a plan would keep for it."""
        case, count = self.case, len(self.case.machine.devices)
        variant = self.variant(layout, ubatch)
        used = variant.devices
        held = [float(case.compute_bytes(variant, d)) for d in range(count)]
        held.append(float(case.host_bytes(variant)))
        if used:
            held[used[-1]] += case.model.output_bytes
        sizes = case.layer_bytes(ubatch)
        for layer in case.model.layers:
            held[layout.homes[layer.index]] += sizes[layer.index]
            for matrix, size in layer.experts.items():
                held[layout.of_experts(layer.index, matrix)] += size
        rooms = [case.usable_bytes(d) for d in range(count)]
        ram = case.machine.ram_bytes
        fits = all(own <= room for own, room in zip(held, rooms, strict=False))
        pool = case.machine.pool_bytes
        fits = fits and (pool is None or case.pool_bytes(variant) <= pool)
        return fits and (ram is None or held[CPU] <= ram)

    def kept_bytes(self, layout: Layout, ubatch: int, device: int) -> float:
        """Return what a plan of a layout keeps on a device for computing."""
        return self.case.compute_bytes(self.variant(layout, ubatch), device)

    @staticmethod
    def used(layout: Layout) -> tuple[int, ...]:
        """Return the devices that hold layers or experts."""
        experts = {place for own in layout.experts.values() for place in own.values()}
        return tuple(sorted({*layout.homes, *experts} - {CPU}))

    def variant(self, layout: Layout, ubatch: int) -> Variant:
        """Return what a layout decides for a whole run."""
        # The last one holds the output.
        used = tuple(d for d in self.used(layout) if d <= layout.homes[-1])
        copies = CPU in layout.homes or any(CPU in own.values() for own in layout.experts.values())
        return Variant(used, ubatch, bool(layout.experts) or copies, copies)

    # ------------------------------------------------------------------ seconds

    def seconds(self, layout: Layout, ubatch: int) -> float:
        """Return the weighted seconds of the goal."""
        prompt, answer = self.case.weights
        found = answer * self.answer_s(layout)
        return found + prompt * self.prompt_s(layout, ubatch) if prompt else found

    def answer_s(self, layout: Layout) -> float:
        """Return seconds per answered token."""
        parts = self.answer_parts(layout)
        return sum(s for _, s in parts)

    def prompt_s(self, layout: Layout, ubatch: int) -> float:
        """Return seconds per prompt token."""
        case = self.case
        if not self.used(layout):
            return case.prompt_alone_s
        total = 0.0
        for layer, home, experts in self.parts(layout):
            total += case.prompt_home_s(layer, home, ubatch)
            for device, part in experts:
                total += part * case.prompt_experts_s(layer, device, ubatch)
        return total

    def decode_rate(self, layout: Layout) -> Rate:
        """Return answered tokens per second, with an interval from errors on runs held out."""
        low = high = value = 0.0
        in_ram = self.case.machine.ram_spread
        for device, seconds in self.answer_parts(layout):
            spread = in_ram if device is None else device.spread
            value += seconds
            low += seconds / spread
            high += seconds * spread
        return Rate(1 / value, 1 / high, 1 / low)

    def prefill_rate(self, layout: Layout, ubatch: int) -> Rate:
        """Return prompt tokens per second, with an interval."""
        devices = self.case.machine.devices
        used = [devices[d] for d in set(layout.homes) if d != CPU]
        spread = max((d.prompt_spread for d in used), default=4.0)
        if used and self.variant(layout, ubatch).copies:
            spread = max(spread, self.case.machine.copied_spread)
        value = 1 / self.prompt_s(layout, ubatch)
        return Rate(value, value / spread, value * spread)

    def answer_parts(self, layout: Layout) -> Iterator[tuple[Device | None, float]]:
        """Yield where seconds of an answered token are spent, and how many."""
        case = self.case
        for layer, home, experts in self.parts(layout):
            yield home, case.home_s(layer, home)
            for device, part in experts:
                yield device, case.experts_s(layer, device, part)
                if device is not None and device is not home:
                    yield device, 2 * HOP_S
        used = tuple(sorted(set(layout.homes) - {CPU}))
        variant = Variant(used, 512, offloads=True)
        yield case.machine.devices[used[-1]] if used else None, case.output_s(variant)

    def parts(
        self, layout: Layout
    ) -> Iterator[tuple[LlamaLayer, Device | None, list[tuple[Device | None, float]]]]:
        """Yield each layer, its home, and where which part of its experts lies; None for RAM."""
        devices = self.case.machine.devices

        def at(place: int) -> Device | None:
            return None if place == CPU else devices[place]

        for layer in self.case.model.layers:
            parts: Counter[int] = Counter()
            for matrix, size in layer.experts.items():
                parts[layout.of_experts(layer.index, matrix)] += size
            experts = [(at(p), size / layer.expert_bytes) for p, size in sorted(parts.items())]
            yield layer, at(layout.homes[layer.index]), experts
