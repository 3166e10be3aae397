"""What a front or a grid keeps besides its points: plans and where the proofs come from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moe2opt.pareto.family import Posed
from moe2opt.pareto.ledger import Known, Ledger
from moe2opt.present import measure_of
from moe2opt.result import IntArray, Status, encode_float


@dataclass(slots=True)
class Plans:
    """Distinct solutions, decoded where they were met first."""

    _numbers: dict[tuple[int, ...], int] = field(default_factory=dict)
    _found: list[dict[str, Any]] = field(default_factory=list)

    @property
    def content(self) -> tuple[dict[str, Any], ...]:
        """The plans, JSON-ready."""
        return tuple(self._found)

    def number(self, posed: Posed, x: IntArray | None) -> int | None:
        """Return the position of the plan that `x` stands for, decoding it when it is new."""
        if x is None:
            return None
        key = tuple(np.asarray(x).tolist())
        if key not in self._numbers:
            self._numbers[key] = len(self._found)
            self._found.append(_decoded(posed, x))
        return self._numbers[key]


def told(plans: Plans, posed: Posed, known: Known) -> dict[str, Any]:
    """Return the attributes of a `Cell` that say what is known there."""
    return {
        "status": str(known.status),
        "limit": known.limit,
        "objective": known.objective,
        "bound": known.bound,
        # A bound alone answers nothing, however well it is proven.
        "certified": known.certified and known.status is not Status.NO_SOLUTION,
        "used": {} if known.x is None else posed.used(known.x),
        "x": None if known.x is None else tuple(known.x.tolist()),
        "plan": plans.number(posed, known.x),
        "proof": known.proof,
        "nodes": known.nodes,
    }


def kept(plans: Plans, ledger: Ledger) -> dict[str, Any]:
    """Return what fronts, grids and surfaces have in common."""
    return {
        "name": ledger.family.name,
        "measure": measure_of(ledger.family.target),
        "plans": plans.content,
        "caveats": ledger.family.caveats,
        "provenance": stored_proofs(ledger),
        "results": tuple(proof.result for proof in ledger.proofs),
    }


def _decoded(posed: Posed, x: IntArray) -> dict[str, Any]:
    """Return a plan; limits in it are those of the point where it was met."""
    if posed.instance is None:
        return {"x": np.asarray(x).tolist()}
    plan: dict[str, Any] = json.loads(json.dumps(posed.instance.decode(x).to_dict()))
    limits = dict(zip(posed.rows, posed.problem.budgets.tolist(), strict=True))
    for entry in plan.get("budgets", ()):
        if isinstance(entry, dict) and entry.get("name") in limits:
            limit = entry["limit"] = limits[entry["name"]]
            entry["share"] = entry["used"] / limit if limit > 0 else None
    return plan


def stored_proofs(ledger: Ledger) -> dict[str, Any]:
    """Return the provenance of a front: settings, versions, and each proof's budgets and digest."""
    proofs = [
        {
            "budgets": [encode_float(b) for b in proof.budgets],
            "sha256": proof.result.provenance["problem"]["sha256"],
            "status": str(proof.result.status),
            "claim": encode_float(proof.result.bound),
            "certificate": None
            if proof.result.certificate is None
            else proof.result.certificate.digest,
            "certified": proof.certified,
        }
        for proof in ledger.proofs
    ]
    versions = ledger.proofs[0].result.provenance["versions"] if ledger.proofs else {}
    settings = {
        key: encode_float(value) if isinstance(value, float) else value
        for key, value in ledger.settings.items()
    }
    return {"settings": settings, "versions": versions, "proofs": proofs} | (
        {"interrupted": True} if ledger.interrupted else {}
    )
