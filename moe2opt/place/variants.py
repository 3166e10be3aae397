"""What may be decided for a whole run: sets of devices, micro-batches, and what lies in RAM."""

from __future__ import annotations

from itertools import combinations

from moe2opt.place.baselines import layouts
from moe2opt.place.case import Case, Variant
from moe2opt.place.judge import Judge

#: Devices up to which every subset may be used; with more, the first ones and the last ones, and
#: what rules in use set, which leave small ones out.
_FEW_DEVICES = 5


def variants_of(case: Case) -> tuple[Variant, ...]:
    """Return every variant, those with all devices first, the processor alone last."""
    found = [
        Variant(subset, ubatch, offloads, copies)
        for subset in _subsets(case)
        for ubatch in sorted(case.config.ubatch)
        for offloads in (True, False)
        for copies in ((True, False) if offloads and len(subset) > 1 else (offloads,))
    ]
    alone = [Variant((), ubatch, offloads=True) for ubatch in sorted(case.config.ubatch)]
    return (*found, *alone)


def _subsets(case: Case) -> list[tuple[int, ...]]:
    """Return the sets of devices that may hold layers, the largest ones first."""
    numbers = tuple(range(len(case.machine.devices)))
    if len(numbers) <= _FEW_DEVICES:
        found = [s for k in numbers for s in combinations(numbers, k + 1)]
    else:
        # `--fit` fills from the last device on, and then from the first.
        found = [(*numbers[:i], *numbers[j:]) for j in numbers[1:] for i in range(j + 1)]
        found += [numbers[:i] for i in numbers[1:]]
        judge, ubatch = Judge(case), min(case.config.ubatch)
        found += [judge.variant(layout, ubatch).devices for layout in layouts(case)]
    kept = {case.first_of_equal(subset) for subset in found if subset}
    return sorted(kept, key=lambda subset: (-len(subset), subset))
