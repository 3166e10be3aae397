"""Solve the built-in instance and write down what was certified.

Usage, from the checkout::

    python docs/studies/certified_reference.py

writes ``problems/reference/mmlu_pro_edge.json``: every scenario, and the optimum for a range of
energy budgets, with any number of experts and with a single one. A result enters only after the
checker has accepted it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import moe2opt as mo
from moe2opt.solve import versions

CHECKOUT = Path(__file__).resolve().parents[2]
INSTANCE = "selection/mmlu_pro_edge"
TARGET = CHECKOUT / "problems" / "reference" / "mmlu_pro_edge.json"

SCENARIOS = (None, "tight", "large", "infeasible", "robust")

#: Energy budgets of the curve in joules per prompt.
LIMITS_J = (
    *(30, 40, 50, 60, 75, 100, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450, 500),
    *(600, 700, 800, 900, 1000, 1200, 1400, 1700, 2000, 2500, 3000),
)


def certified(scenario: str | None = None, **overrides: Any) -> dict[str, Any]:
    """Return one certified result; raise `CertificationError` when the checker rejects it."""
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    instance = mo.load(INSTANCE, scenario, keys)
    result = mo.solve(instance)
    verdict = mo.certify(instance, result)
    verdict.raise_if_failed()
    return {
        "scenario": scenario,
        "overrides": keys,
        "status": str(result.status),
        "objective": _number(result.objective),
        "bound": _number(result.bound),
        "gap": _number(result.gap),
        "solver": result.solver,
        "certificate": {"kind": verdict.kind, "leaves": result.certificate.leaves},
        "problem_sha256": instance.problem().fingerprint,
        **_plan(result.plan),
    }


def _plan(plan: Any) -> dict[str, Any]:
    if plan is None:
        return {"experts": None, "test_accuracy": None}
    experts = [f"{e.llm} {e.precision} @ {e.server}" for e in plan.experts]
    return {"experts": experts, "test_accuracy": plan.test_accuracy}


def _number(value: float) -> float | str:
    return value if abs(value) < float("inf") else str(value)


def main() -> None:
    """Write the reference file."""
    content = {
        "instance": INSTANCE,
        "command": "python docs/studies/certified_reference.py",
        "note": (
            "Objectives agree between machines to about 1e-12; the last bits of the instance, and "
            "with them problem_sha256, depend on the linear algebra library that numpy uses."
        ),
        "versions": versions(),
        "scenarios": [certified(name) for name in SCENARIOS],
        "energy_budget": [certified(energy__limit_j_per_prompt=limit) for limit in LIMITS_J],
        "energy_budget_one_expert": [
            certified(energy__limit_j_per_prompt=limit, max_experts=1) for limit in LIMITS_J
        ],
    }
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET.relative_to(CHECKOUT)} written")


if __name__ == "__main__":
    main()
