"""Filling rows of few sizes: what many moves at once use up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.solvers.base import Options, Search
from moe2opt.solvers.choice.lattice import _cheapest, fill, lattice_of
from moe2opt.solvers.choice.model import ChoiceModel


@pytest.mark.parametrize(
    ("costs", "unit", "multiple"),
    [
        ([0.0, 16.0, 8.5, 4.25], 0.25, [0, 64, 34, 17]),
        ([75.4, 40.05625, 22.62, 12.2525], 0.47125, [160, 85, 48, 26]),
        ([3.0, 3.0], 3.0, [1, 1]),
    ],
)
def test_unit_of_a_few_sizes(costs: list[float], unit: float, multiple: list[int]) -> None:
    """Sizes of a few formats are whole multiples of one unit."""
    lattice = lattice_of(2, np.array(costs))
    assert lattice is not None
    assert lattice.row == 2
    assert lattice.unit == pytest.approx(unit)
    assert lattice.multiple.tolist() == multiple


@pytest.mark.parametrize("costs", [[0.0, 0.0], list(np.random.default_rng(0).random(100)),
                                   [1.0, 2**0.5], [1.0, 9999.5]])  # fmt: skip
def test_no_unit(costs: list[float]) -> None:
    """Nothing, many sizes, incommensurable ones and very unequal ones have none of use."""
    assert lattice_of(0, np.array(costs)) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-6, 6).filter(bool), st.floats(0, 5)), min_size=1, max_size=9),
    st.integers(0, 9),
    st.floats(0, 3),
)
def test_cheapest_set_is_that_of_enumeration(
    items: list[tuple[int, float]], left: int, worth: float
) -> None:
    """The dynamic programme finds the least regret plus what stays unused."""
    step = np.array([jump for jump, _ in items])
    extra = np.array([loss for _, loss in items])

    def total(chosen: tuple[int, ...]) -> float:
        used = sum(items[i][0] for i in chosen)
        lost = sum(items[i][1] for i in chosen)
        return lost + worth * (left - used) if used <= left else np.inf

    subsets = itertools.chain.from_iterable(
        itertools.combinations(range(len(items)), r) for r in range(len(items) + 1)
    )
    best = min(map(total, subsets))
    if left > 20 * np.abs(step).max():
        return
    found = total(tuple(_cheapest(step, extra, left, worth).tolist()))
    # Sums outside of the window of the programme are not looked at.
    assert best - 1e-9 <= found
    if np.abs(step).max() * 6 >= np.abs(step).sum():
        assert found <= best + 1e-9


def test_the_programme_stays_small() -> None:
    """What is left far away is not looked for, and of very many items the first are taken."""
    step, extra = np.full(3, 5000), np.zeros(3)
    assert not len(_cheapest(step, extra, 10**9, 1.0))
    many = np.tile(np.array([5000, -4999, 7]), 20_000)
    chosen = _cheapest(many, np.linspace(0.0, 1e-6, len(many)), 1, 1.0)
    assert int(many[chosen].sum()) == 1
    assert chosen.max() < 1000


def _search(problem: MultipleChoiceProblem, start: list[int]) -> Search:
    search = Search(problem, Options())
    assert search.offer(np.array(start), "U")
    return search


def test_many_moves_at_once_fill_a_row() -> None:
    """What four large experts out and eight smaller ones in use up exactly, no fewer moves do."""
    large, small = [[0.0, 16.0]] * 4, [[0.0, 8.5]] * 8
    values = [[0.0, 16.0]] * 4 + [[0.0, 8.5]] * 8
    usage = [[[u] for u in pair] for pair in large + small]
    problem = MultipleChoiceProblem(values, usage, [68.0])
    search = _search(problem, [1] * 4 + [0] * 8)
    model = ChoiceModel(problem)
    fill(model, 1.0 / model.row_scale, 68.0, search)
    assert search.objective == 68.0
    assert search.x is not None
    assert search.x.tolist() == [0] * 4 + [1] * 8


def test_other_rows_are_used_up_by_moves_of_equal_size() -> None:
    """With a second row of real numbers, experts of one size change places."""
    values = [[0.0, 2.0], [0.0, 2.3], [0.0, 2.2]]
    usage = [[[0.0, 0.0], [1.0, x]] for x in (0.5, 0.8, 0.7)]
    problem = MultipleChoiceProblem(values, usage, [1.0, 0.75])
    search = _search(problem, [1, 0, 0])
    model = ChoiceModel(problem)
    fill(model, np.array([1.5, 1.0]) / model.row_scale, 2.25, search)
    assert search.objective == 2.2


def test_filling_never_leaves_a_worse_or_infeasible_solution() -> None:
    """On random problems the value only rises, up to the bound, within the budgets."""
    improved = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sizes = np.array([0.0, 2.6, 4.8, 8.5, 16.0])
        usage = [np.column_stack([sizes, rng.random(5) * sizes]) for _ in range(40)]
        values = [rng.random() * sizes + rng.random(5) for _ in usage]
        problem = MultipleChoiceProblem(values, usage, [170.3, 150.0])
        start = [0] * 40
        search = _search(problem, start)
        model = ChoiceModel(problem)
        price = np.array([0.5, 0.0]) / model.row_scale
        profit = model.values - model.costs @ price
        bound = float(np.maximum.reduceat(profit, model.starts).sum() + price @ model.limits)
        fill(model, price, bound, search)
        assert search.x is not None
        assert problem.is_feasible(search.x)
        assert problem.evaluate(start) <= search.objective <= bound + 1e-9
        improved += search.objective > problem.evaluate(start)
    assert improved >= 10
