"""Treatments of a layer, one file each.

A further one is a file beside these, its section in `sections`, and its line here.
"""

from moe2opt.placement.case import Case
from moe2opt.placement.mode import Mode
from moe2opt.placement.modes.cache import Cached
from moe2opt.placement.modes.coverage import Covered
from moe2opt.placement.modes.pattern import Pattern
from moe2opt.placement.modes.pipeline import Pipeline
from moe2opt.placement.modes.prefetch import Prefetched
from moe2opt.placement.modes.split import Split
from moe2opt.placement.modes.tiers import Tiers
from moe2opt.placement.modes.units import Units

#: Of those that a configuration asks for, the last one treats its layers.
MODES: tuple[type[Mode], ...] = (
    Units,
    Tiers,
    Prefetched,
    Cached,
    Covered,
    Split,
    Pattern,
    Pipeline,
)


def mode_of(case: Case) -> Mode:
    """Return the treatment that a case's configuration asks for."""
    return [mode for mode in MODES if mode.asked(case.config)][-1](case)
