"""The page of the third question in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report.conftest import browser as browser
from report.test_browser import move, opened, rows, text

import moe2opt as mo
from moe2opt.report import write_report
from moe2opt.report.gridding import add_grid, default_axes

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def test_plan_budgets_and_explorer_are_seen(browser: Any, drafts: None, tmp_path: Path) -> None:
    """The page shows the table of drafts, its two budgets, and follows the explorer's sliders."""
    tiny: Any = mo.load("drafts/tiny")
    result = mo.solve(tiny)
    result.save(tmp_path / "result.json")
    grid = add_grid(tmp_path, tiny, default_axes(tiny, 3))
    opened(browser, write_report(tmp_path)[1])
    assert browser.get_log("browser") == []
    plan = result.plan.to_dict()["choices"]
    assert [row[:2] for row in rows(browser, "plan")] == [[c["model"], c["draft"]] for c in plan]
    bars = browser.execute_script(
        "return [...document.querySelectorAll('.bars li')].map(bar => bar.innerText)"
    )
    assert [bar.split("\n")[0] for bar in bars] == ["memory (GiB)", "energy (J per token)"]
    for i in range(3):
        move(browser, 0, i)
        move(browser, 1, 2)
        shown = grid.plan_of(grid[i, 2])
        wanted = [] if shown is None else [c["model"] for c in shown["choices"]]
        assert [row[0] for row in rows(browser, "explored")] == wanted
        assert ("No plan exists" in text(browser, "now")) == (shown is None)
