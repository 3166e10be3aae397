"""The registry of suites: each yields its cases for a number of seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.bench.cases import Case
from moe2opt.bench.redundancy import NETWORKS
from moe2opt.config import load
from moe2opt.library import find
from moe2opt.result import InputError

#: Experts, clusters and share of the total cost of the generated instances.
SIZES = (
    (50, 200, 0.15),
    (100, 500, 0.10),
    (200, 1000, 0.08),
    (1000, 1000, 0.03),
    (1000, 10_000, 0.02),
)

#: Budgets of the placement instances, see `moe2opt.bench.placement.LEVELS`.
PLACEMENT_LEVELS = ("tight", "medium", "loose", "scarce", "ample", "faithful", "uneven")

#: Noise as large as the skills, see `moe2opt.bench.generated`.
MUCH_NOISE = 1.0

#: Growth: experts at a fixed number of clusters, clusters at a fixed number of experts, a corner.
GROWTH_EXPERTS, GROWTH_CLUSTERS, GROWTH_CORNER = (
    [(n, 2000) for n in (125, 250, 500, 1000, 2000, 4000)],
    [(500, c) for c in (625, 1250, 2500, 5000, 10_000, 20_000)],
    (4000, 20_000),
)

#: Share of the total cost in the growth instances: about twenty experts fit, whatever N is.
GROWTH_CHOSEN = 20.0


@dataclass(frozen=True, slots=True)
class Suite:
    """A named family of cases.

    Attributes
    ----------
    name, about
        What it is called and one line about it.
    cases
        The cases for the seeds 0..n-1; suites of fixed instances ignore the number.
    seeded
        Whether a seed makes another instance; otherwise it only seeds the solvers.
    """

    name: str
    about: str
    cases: Callable[[int], Iterator[Case]]
    seeded: bool = False


def _generated(suite: str, recipe: str, **more: float) -> Callable[[int], Iterator[Case]]:
    def cases(seeds: int) -> Iterator[Case]:
        for (n, c, fraction), seed in itertools.product(SIZES, range(seeds)):
            arguments = {"experts": n, "clusters": c, "fraction": fraction, "seed": seed, **more}
            name = f"{suite.removeprefix('selection-')}-{n}x{c}-s{seed}"
            yield Case(suite, name, recipe, arguments, (n, c))

    return cases


def _catalogue(seeds: int) -> Iterator[Case]:
    for prompts, servers, energy in itertools.product(
        (None, 1000, 3600), (2, 4, 8, 16), ("tight", "medium", "none")
    ):
        name = f"{prompts or 'clusters'}-{servers}servers-{energy}"
        arguments = {"prompts": prompts, "servers": servers, "energy": energy}
        size = (24 * 3 * servers, prompts or 200)
        yield Case("selection-real", name, "catalogue", arguments, size)


def _placement(seeds: int) -> Iterator[Case]:
    for layers, level in itertools.product((5, 75), PLACEMENT_LEVELS):
        arguments = {"layers": layers, "level": level}
        size = (256 * layers, 12)
        yield Case("placement-real", f"glm52-{layers}layers-{level}", "placement", arguments, size)


def _orlib(seeds: int) -> Iterator[Case]:
    names = {
        "mknap": [f"mknap1-{k}" for k in range(1, 8)],
        "mknapcb": [f"mknapcb1-{k:02d}" for k in range(30)],
        "gap": [f"gap{f}-{k}" for f in (1, 2) for k in range(1, 6)],
        "mmkp": [f"I{k:02d}" for k in (1, 2, 3, 5, 7, 9, 11, 12, 13)],
        "pmed": [f"pmed{k}" for k in range(1, 21)],
        "cap": [f"cap{k}-uncap" for k in (71, 73, 101, 103, 131, 133, "a", "c")],
    }
    for family, instances in names.items():
        for instance in instances:
            arguments = {"family": family, "instance": instance}
            yield Case("orlib", instance, "orlib", arguments)


def _monotone(seeds: int) -> Iterator[Case]:
    fixed: list[tuple[str, dict[str, Any], int]] = [("tillman", {}, 5), ("luus", {}, 15)]
    fixed += [(f"fyffe-w{w}", {"weight": w}, 48) for w in range(191, 158, -1)]
    for name in NETWORKS:
        recipe = {"family": "network", "name": name}
        size = len(NETWORKS[name].components)
        yield Case("monotone", f"network-{name}", "monotone", recipe, (size, 1))
    for name, arguments, size in fixed:
        named = {"family": name.split("-")[0], **arguments}
        yield Case("monotone", name, "monotone", named, (size, 1))
    sizes = (
        ("series", "stages", (20, 40)),
        ("coverage", "sensors", (12, 16, 20)),
        ("cover", "sensors", (16, 20, 40)),
        ("quadratic-knapsack", "items", (15, 20, 40)),
        ("wsr", "users", (4, 6, 10)),
        ("power-control", "links", (4, 6, 8)),
        ("sensor-placement", "places", (16, 20, 40)),
    )
    for family, word, numbers in sizes:
        for n, seed in itertools.product(numbers, range(seeds)):
            arguments = {"family": family, word: n, "seed": seed}
            yield Case("monotone", f"{family}-{n}-s{seed}", "monotone", arguments, (n, 1))


def _growth(seeds: int) -> Iterator[Case]:
    sizes = list(dict.fromkeys([*GROWTH_EXPERTS, *GROWTH_CLUSTERS, GROWTH_CORNER]))
    for (n, c), seed in itertools.product(sizes, range(seeds)):
        fraction = GROWTH_CHOSEN / n
        arguments = {"experts": n, "clusters": c, "fraction": fraction, "seed": seed}
        yield Case("growth", f"growth-{n}x{c}-s{seed}", "structured", arguments, (n, c))


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "selection-structured",
            "generated: latent skills, size and some noise; two knapsacks",
            _generated("selection-structured", "structured"),
            seeded=True,
        ),
        Suite(
            "selection-noisy",
            "generated: the same with noise as large as the skills",
            _generated("selection-noisy", "structured", noise=MUCH_NOISE),
            seeded=True,
        ),
        Suite(
            "selection-uniform",
            "generated: independent uniform values; two knapsacks",
            _generated("selection-uniform", "uniform"),
            seeded=True,
        ),
        Suite(
            "selection-real",
            "24 LLMs x 3 precisions x 2-16 servers; 200 clusters or single prompts",
            _catalogue,
        ),
        Suite(
            "placement-real",
            "experts of GLM-5.2 x (3 tiers x 4 precisions); three budgets",
            _placement,
        ),
        Suite(
            "monotone",
            "series systems, networks, coverage, covers, quadratic knapsacks, powers, sensors",
            _monotone,
            seeded=True,
        ),
        Suite("orlib", "OR-Library families and MMKP with published values", _orlib),
        Suite(
            "growth",
            "structured instances of growing size; fitted exponents of time and memory",
            _growth,
            seeded=True,
        ),
    )
}


def cases_of(name: str, seeds: int) -> list[Case]:
    """Return the cases of a suite, or the one case of a problem file or built-in problem.

    Raises
    ------
    InputError
        When the name is neither.
    """
    if name in SUITES:
        return list(SUITES[name].cases(seeds))
    try:
        path = find(name)
    except InputError as error:
        raise InputError(f"{name!r} is no suite ({', '.join(SUITES)}) and no problem") from error
    load(path)  # a fault of the file is none of any peer
    return [Case("file", Path(name).stem, "file", {"path": str(path)})]
