"""The verb `evaluate` where there is no plan to judge."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from moe2opt.cli.app import app


@pytest.mark.parametrize(
    ("override", "code", "why"),
    [
        ("energy.limit_j_per_prompt=0.1", 3, "no deployment keeps the budgets"),
        ("solver.time_limit_s=0", 4, "no deployment was found in time"),
    ],
)
def test_no_plan_is_told_from_no_time(override: str, code: int, why: str) -> None:
    """Only a proof says that no deployment keeps the budgets; a limit has a code of its own."""
    ran = CliRunner().invoke(app, ["evaluate", "tiny_gate", "--quiet", "--set", override])
    assert ran.exit_code == code
    assert f"evaluate: {why} (moe2opt solve says more)\n" in ran.stderr
