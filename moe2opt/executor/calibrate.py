"""From a run to a profile: what copying and computing an expert took, by memory and format."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from moe2opt.errors import DAMAGE
from moe2opt.executor.run.record import Run, Served
from moe2opt.files import read_json
from moe2opt.placement import PlacementInstance
from moe2opt.placement.assignment import Assignment, plain
from moe2opt.placement.machine.rates import COLUMNS, TABLE, UNIQUE
from moe2opt.profiles.measure.machine import processor_name
from moe2opt.profiles.measure.writing import check_writable, merge_table
from moe2opt.result import FloatArray, InputError
from moe2opt.schema.csv import Row, read_table

FORMAT = "moe2opt execution"

T = TypeVar("T")

#: Copies per token by which runs must differ to be compared with one another.
_APART = 0.5


@dataclass(frozen=True, slots=True)
class Cell:
    """One measured figure, a row of the profile's table (microseconds).

    Attributes
    ----------
    quantity
        ``move``, ``compute``, ``dense``, or ``working``, which has bytes only: buffers that copies
        pass through and formats are unpacked in.
    memory, place, precision
        Where the expert lies, where it is computed, its format; empty for ``dense``.
    bytes
        Of the expert in that format, or of the dense part.
    us, low_us, high_us, count
        Mean over the uses (each the median of its passes), quartiles over the uses, number of uses.
        The quartiles are widened to hold the mean where uses are skewed; nothing is below 0.
    """

    quantity: str
    memory: str
    place: str
    precision: str
    bytes: float
    us: float
    low_us: float
    high_us: float
    count: int


def mixed_assignment(instance: PlacementInstance, seed: int = 0) -> Assignment:
    """Return an assignment with every tier and every format in every layer, drawn at random.

    Tiers are filled as far as their capacity goes; running it measures every pair.
    """
    draw = np.random.default_rng(seed)
    layers, experts = instance.shape.size
    pairs = [
        (t, q) for t in range(len(instance.topology.tiers)) for q in range(len(instance.precisions))
    ]
    room = [tier.free_bytes for tier in instance.topology.tiers]
    tier = np.zeros((layers, experts, 1), dtype=np.int64)
    precision = np.zeros_like(tier)
    turn = 0
    for layer in range(layers):
        for expert in draw.permutation(experts):
            for step in range(len(pairs)):
                t, q = pairs[(turn + step) % len(pairs)]
                if instance.expert_bytes[q] <= room[t]:
                    break
            else:
                raise InputError(
                    "calibrate: the tiers cannot hold all experts, whatever the format"
                )
            room[t] -= float(instance.expert_bytes[q])
            tier[layer, expert, 0], precision[layer, expert, 0] = t, q
            turn += 1
    return plain(tier, precision)


def resident_assignment(instance: PlacementInstance) -> Assignment:
    """Return an assignment with few copies: the most used experts at home, all in one format.

    That is the largest format in which all of them fit there, else the smallest. Beside a mixture
    it tells what a token costs that waits for no copy.
    """
    home = instance.topology.home
    return _in_one_format(instance, [home, *(t for t in _tiers(instance) if t != home)], home)


def distant_assignment(instance: PlacementInstance) -> Assignment:
    """Return an assignment with many copies: the most used experts on the slowest tier.

    All are in one format, the largest in which all fit there, else the smallest. Copies one after
    the other take another time than those of a mixture, and slow down less of what follows each.
    """
    use = instance.use.seconds.max(axis=1)
    order = sorted(_tiers(instance), key=lambda t: -float(use[t]))
    return _in_one_format(instance, order, order[0])


def _tiers(instance: PlacementInstance) -> range:
    return range(len(instance.topology.tiers))


def _in_one_format(instance: PlacementInstance, order: Sequence[int], first: int) -> Assignment:
    """Return the experts by falling use, each on the first tier in `order` that has room."""
    layers, experts = instance.shape.size
    tier = np.full(layers * experts, -1, dtype=np.int64)
    room = [tier.free_bytes for tier in instance.topology.tiers]
    fitting_all = np.flatnonzero(layers * experts * instance.expert_bytes <= room[first])
    one = int(np.argmin(instance.expert_bytes))
    if len(fitting_all):
        one = int(fitting_all[np.argmax(instance.expert_bytes[fitting_all])])
    for expert in np.argsort(-instance.uses.ravel(), kind="stable"):
        fitting = [t for t in order if instance.expert_bytes[one] <= room[t]]
        if not fitting:
            raise InputError("calibrate: the tiers cannot hold all experts, whatever the format")
        tier[expert] = fitting[0]
        room[fitting[0]] -= float(instance.expert_bytes[one])
    shape = (layers, experts, 1)
    return plain(tier.reshape(shape), np.full(shape, one, dtype=np.int64))


def calibrating(instance: PlacementInstance) -> list[Assignment]:
    """Return what is run to know all seconds: a mixture, few copies and many."""
    return [
        mixed_assignment(instance),
        resident_assignment(instance),
        distant_assignment(instance),
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Uses:
    """What the uses of experts in a run took: cells, and per token the rest and the copies."""

    cells: list[Cell]
    rest_s: FloatArray
    copies: FloatArray


def cells_of(runs: Sequence[Run], instance: PlacementInstance) -> list[Cell]:
    """Return what copying and computing took, by memory and format, and the rest of a token.

    A use counts with the median of its passes, so that a disturbed pass does not. Of a figure that
    several runs know, the one with the most uses counts; the rest of a token is that of the run
    with the fewest copies.
    """
    uses = [_uses_of(run, instance) for run in runs]
    after = _after_a_copy(uses)
    rest = _rest_without(uses, after)
    found = merged(cell for one in uses for cell in one.cells)
    found = [_longer(c, 1e6 * after) if c.quantity == "move" else c for c in found]
    layout = runs[0].layout
    home = layout.kinds[layout.home]
    passing = float(max(run.held.passing_bytes for run in runs))
    found.append(Cell("working", "", home, "", passing, 0.0, 0.0, 0.0, len(rest)))
    dense_bytes = float(instance.shape.dense_bytes)
    found.append(_cell("dense", "", home, "", dense_bytes, rest))
    return found


def _uses_of(run: Run, instance: PlacementInstance) -> _Uses:
    first = run.passes[0].served
    same = [p for p in run.passes if len(p.served) == len(first)]
    times = np.median([[(s.move_s, s.compute_s) for s in p.served] for p in same], axis=0).reshape(
        -1, 2
    )
    kinds, names = run.layout.kinds, [p.name for p in instance.precisions]
    keys: dict[tuple[str, str, str, bool], list[int]] = {}
    place: str
    for k, use in enumerate(first):
        place = kinds[int(run.layout.place[use.tier, use.precision])]
        hit = use.hit or run.layout.slots is None
        keys.setdefault((kinds[use.tier], place, names[use.precision], hit), []).append(k)
    found, moves, typical = [], list[int](), times[:, 1].copy()
    for (memory, place, name, hit), uses in sorted(keys.items()):
        size = float(instance.expert_bytes[names.index(name)])
        where = (place if run.layout.slots is not None and hit else memory, place, name)
        if where[0] != place and not all(first[k].early for k in uses):
            direct = [k for k in uses if not first[k].early]
            found.append(_cell("move", *where, size, times[direct, 0]))
            moves += direct
        else:
            typical[uses] = times[uses, 1].mean()
        found.append(_cell("compute", *where, size, times[uses, 1]))
    total = np.median([p.token_s for p in run.passes], axis=0)
    rest, copies = _without_experts(total, first, times[:, 0], typical, set(moves))
    return _Uses(found, rest, copies)


def _without_experts(
    token_s: FloatArray,
    served: Sequence[Served],
    move_s: FloatArray,
    compute_s: FloatArray,
    moves: set[int],
) -> tuple[FloatArray, FloatArray]:
    """Return the seconds of each token without its experts, and how many copies it waited for."""
    rest, number = token_s.copy(), np.zeros(len(token_s))
    for k, use in enumerate(served):
        # Of an expert that is already there, the time of looking it up stays with the rest.
        rest[use.token] -= compute_s[k] + (move_s[k] if k in moves else 0.0)
        number[use.token] += k in moves
    return rest, number


def _after_a_copy(uses: Sequence[_Uses]) -> float:
    """Return the seconds that each copy adds to the rest of a token.

    While a copy is waited for, caches are lost to others and the processor slows down: what follows
    takes longer. That part is the copies' own; for its sake experts that are not copied count with
    their mean time. The first copies of a token cost more than the later ones, so runs with few and
    with many copies are compared where there are both, rather than the tokens of one.
    """
    points = [(float(one.copies.mean()), float(one.rest_s.mean())) for one in uses]
    if np.ptp([copies for copies, _ in points]) < _APART:
        points = [
            pair
            for one in uses
            for pair in zip(one.copies.tolist(), one.rest_s.tolist(), strict=True)
        ]
    copies, rest_s = np.array(points).T
    if np.ptp(copies) == 0:
        return 0.0
    return max(0.0, float(np.polyfit(copies, rest_s, 1)[0]))


def _rest_without(uses: Sequence[_Uses], after: float) -> FloatArray:
    """Return the rest of each token less what copies add, of the run with the fewest copies."""
    fewest = min(uses, key=lambda one: float(one.copies.mean()))
    return fewest.rest_s - after * fewest.copies


def _cell(quantity: str, memory: str, place: str, name: str, size: float, seconds: Any) -> Cell:
    low, high = np.percentile(seconds, (25, 75))
    mean, low, high = _ordered(*(1e6 * float(v) for v in (np.mean(seconds), low, high)))
    return Cell(quantity, memory, place, name, size, mean, low, high, len(seconds))


def _longer(cell: Cell, us: float) -> Cell:
    return replace(cell, us=cell.us + us, low_us=cell.low_us + us, high_us=cell.high_us + us)


def _ordered(us: float, low_us: float, high_us: float) -> tuple[float, float, float]:
    """Return mean and quartiles with 0 ≤ low ≤ mean ≤ high.

    What is left of a noisy token without its experts may be negative, which no time is, and the
    mean of skewed times may lie outside their quartiles.
    """
    us = max(us, 0.0)
    return us, min(max(low_us, 0.0), us), max(high_us, us)


def merged(cells: Iterable[Cell]) -> list[Cell]:
    """Return one cell for each figure: the one taken from the most uses."""
    best = _most_counted(
        cells, lambda c: (c.quantity, c.memory, c.place, c.precision), lambda c: c.count
    )
    return [best[key] for key in sorted(best)]


def _most_counted(
    found: Iterable[T], key: Callable[[T], tuple[Any, ...]], count: Callable[[T], int]
) -> dict[tuple[Any, ...], T]:
    """Return of everything with the same key what has the largest count, of ties the first."""
    best: dict[tuple[Any, ...], T] = {}
    for one in found:
        if key(one) not in best or count(one) > count(best[key(one)]):
            best[key(one)] = one
    return best


def profile_from_runs(
    paths: Sequence[Path], folder: Path, device: str | None = None
) -> tuple[list[Path], list[Row]]:
    """Write what runs measured as a profile.

    Parameters
    ----------
    paths
        Files written by ``moe2opt execute --out``.
    folder
        Profile folder; its other rows are kept.
    device
        Name of the machine; that of its processor when None.

    Returns
    -------
    list of Path, list of Row
        What was written, and the rows of these runs.

    Raises
    ------
    InputError
        For a file that is no run, or a folder that cannot be written.
    """
    name = device or processor_name()
    all_rows = (row for path in paths for row in _rows(path, name))
    rows = list(_most_counted(all_rows, _key, lambda row: row["count"]).values())
    _check_rows(rows, ", ".join(path.name for path in paths))
    if (folder / TABLE).is_file():
        read_table(folder / TABLE, COLUMNS, unique=UNIQUE)
    check_writable(folder)
    keys = {_key(row) for row in rows}
    written = merge_table(folder / TABLE, COLUMNS, rows, lambda row: _key(row) in keys)
    return [written], rows


def _check_rows(rows: Sequence[Row], names: str) -> None:
    """Raise `InputError` when the reader of profiles would refuse the rows."""
    with tempfile.TemporaryDirectory() as folder:
        table = merge_table(Path(folder) / TABLE, COLUMNS, rows, lambda _: False)
        try:
            read_table(table, COLUMNS, unique=UNIQUE)
        except InputError as error:
            words = str(error).replace(str(table), TABLE)
            raise InputError(f"--from-run {names}: gives no usable profile: {words}") from error


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple("" if row[name] is None else row[name] for name in UNIQUE)


def _rows(path: Path, device: str) -> Iterator[Row]:
    try:
        content = read_json(path)
    except InputError as error:
        raise InputError(f"--from-run {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"--from-run {path}: is not a run of `moe2opt execute --out`")
    try:
        model = content["model"]
        for cell in content["cells"]:
            figures = {k: cell[k] for k in Cell.__dataclass_fields__}
            keys = ("us", "low_us", "high_us")
            ordered = _ordered(*(float(figures[k]) for k in keys))
            numbers = {k: float(f"{v:.6g}") for k, v in zip(keys, ordered, strict=True)}
            source = f"moe2opt execute, {content['instance']}, {content['started']}"
            yield {
                **figures,
                **numbers,
                "device": device,
                "hidden": int(model["hidden"]),
                "weights": float(model["weights"]),
                "source": source,
                "note": "",
            }
    except DAMAGE as error:
        raise InputError(
            f"--from-run {path}: is damaged: {type(error).__name__} {error}"
        ) from error


def to_json(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return JSON-ready content."""
    return [asdict(cell) for cell in cells]
