"""Write a fleet's result with its proofs, and check it again without any solver."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.certify import certify
from moe2opt.differences import differences
from moe2opt.errors import DAMAGE
from moe2opt.files import MOST_BYTES, json_of, open_regular, read_json, read_text
from moe2opt.fleet.answer import FleetResult
from moe2opt.fleet.master import least_value, proves_none
from moe2opt.fleet.priced import distinct_sites, priced
from moe2opt.fleet.sites import Fleet
from moe2opt.result import (
    NUMERICAL_GAP,
    Certificate,
    InputError,
    Result,
    Status,
    encode_float,
    optimal_within,
    relative_gap,
)
from moe2opt.text import as_cell
from moe2opt.verify import only_within
from moe2opt.writing import replacing, write_frame, write_text

#: Relative tolerance of sums over sites.
_SUM = 1e-9


def save_fleet(result: FleetResult, fleet: Fleet, folder: str | Path) -> None:
    """Write ``fleet.json``, ``sites.csv`` and ``proofs.jsonl.gz``.

    Proofs are one line per distinct site: its answer at the price of the bound, with certificate.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.to_dict(), indent=1, allow_nan=False)
    if len(result.choice):
        write_frame(folder / "sites.csv", result.to_frame(fleet))
    with (
        replacing(folder / "proofs.jsonl.gz") as beside,
        beside.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=5, fileobj=file, mtime=0) as stream,
    ):
        for line in _lines(result):
            stream.write((json.dumps(line) + "\n").encode())
    write_text(folder / "fleet.json", f"{text}\n")


def _lines(result: FleetResult) -> Iterator[dict[str, Any]]:
    plans: dict[int, set[int]] = {}
    for kind, chosen in zip(result.kind_of.tolist(), result.choice.tolist(), strict=False):
        plans.setdefault(kind, set()).add(chosen)
    for k, site in enumerate(result.distinct):
        answer = site.at(result.price)
        if answer is None or answer.certificate is None:
            continue
        yield {
            "site": k,
            "bound": encode_float(answer.bound),
            "certificate": answer.certificate.to_dict(),
            "plans": {
                str(c): [int(v) for v in x]
                for c in sorted(plans.get(k, ()))
                if (x := site.answers[c].x) is not None
            },
        }


def verify_fleet(folder: str | Path, fleet: Fleet) -> list[str]:
    """Return everything that is wrong with what `save_fleet` wrote; empty when it holds.

    Every site's problem is posed again at the price, its certificate replayed, and the bounds
    added up. Every site's plan is evaluated again.

    Raises
    ------
    InputError
        When the files cannot be read.
    """
    folder = Path(folder)
    try:
        told = read_json(folder / "fleet.json")
        proofs = {line["site"]: line for line in _proofs(folder / "proofs.jsonl.gz")}
        rows = _rows(folder / "sites.csv")
        return _Check(fleet, told, proofs, rows).failures()
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{folder}: not a fleet: {type(error).__name__}: {error}") from error


def provisos_of_fleet(folder: str | Path) -> tuple[str, ...]:
    """Return what loosened the question that a fleet's files answer."""
    told = read_json(Path(folder) / "fleet.json")
    gap = float(told["gap"])
    if told["status"] != "OPTIMAL" or gap <= NUMERICAL_GAP:
        return ()
    return (only_within(float(told["rel_gap"]), gap),)


def _proofs(path: Path) -> Iterator[Any]:
    """Yield the lines of the file of proofs; what one of them may unpack to is bounded."""
    with open_regular(path) as packed, gzip.open(packed) as stream:
        number = 0
        try:
            while line := stream.readline(MOST_BYTES + 1):
                number += 1
                if len(line) > MOST_BYTES:
                    raise InputError(f"{path}:{number}: the line is too long")
                yield json_of(line.decode("utf-8"), f"{path}:{number}")
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise InputError(f"{path}: is damaged: {error}") from error


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of the table of sites."""
    return list(csv.DictReader(io.StringIO(read_text(path)))) if path.exists() else []


class _Check:
    def __init__(
        self,
        fleet: Fleet,
        told: dict[str, Any],
        proofs: dict[int, dict[str, Any]],
        rows: list[dict[str, str]],
    ) -> None:
        self.fleet, self.told, self.proofs, self.rows = fleet, told, proofs, rows
        own = fleet.measure.own
        self.chosen = [(own(float(row["value"])), float(row["used"])) for row in rows]
        self.claimed = own(float(told["objective"])), own(float(told["bound"]))
        self.sites, self.kind_of = distinct_sites(fleet)
        self.price = float(told["price"])

    def failures(self) -> list[str]:
        bounds, faults = [], []
        for k in range(len(self.sites)):
            bound, fault = self._bound(k)
            bounds.append(bound)
            faults += fault
        rates, bound = self.fleet.rates, math.inf
        if not faults:
            parts = [r * bounds[k] for r, k in zip(rates, self.kind_of.tolist(), strict=True)]
            bound = math.fsum(parts) + self.price * self.fleet.limit
            if _above(bound, self.claimed[1]):
                faults.append(f"the sites prove {bound!r}, not {self.told['bound']!r}")
            if self.told["status"] == "INFEASIBLE" and not self._proves_none(bound):
                faults.append(f"the bound {bound!r} leaves room for plans")
        faults += self._plan_faults() if self.told["status"] in _WITH_PLAN else []
        return faults or [*self._differences(bound)]

    def _differences(self, proven: float) -> Iterator[str]:
        """Yield what the files say otherwise than proofs and plans do."""
        rates, measure = self.fleet.rates.tolist(), self.fleet.measure
        value, used = -math.inf, 0.0
        if self.rows:
            value = math.fsum(r * v for r, (v, _) in zip(rates, self.chosen, strict=True))
            used = math.fsum(r * u for r, (_, u) in zip(rates, self.chosen, strict=True))
        bound, rel_gap = max(proven, value), float(self.told["rel_gap"])
        gap = relative_gap(value, bound)
        status = Status.INFEASIBLE if self.told["status"] == "INFEASIBLE" else Status.NO_SOLUTION
        if self.rows:
            within = 0.0 <= rel_gap < math.inf and gap <= max(optimal_within(rel_gap), _SUM)
            status = Status.OPTIMAL if within else Status.FEASIBLE
        rebuilt = {
            "name": self.fleet.name,
            "status": str(status),
            **measure.to_dict(),
            "objective": encode_float(measure.own(value)),
            "bound": encode_float(measure.own(bound)),
            "canonical": {"objective": encode_float(value), "bound": encode_float(bound)},
            "gap": encode_float(gap),
            "used": used,
            "limit": self.fleet.limit,
            "certified": True,
            "sites": len(self.kind_of),
            "distinct": len(self.sites),
        }
        yield from differences(self.told, rebuilt, free=_FREE)
        facts = zip(self.rows, self.fleet.sites, self.kind_of.tolist(), strict=False)
        for k, (row, site, kind) in enumerate(facts):
            stored = {"site": row["site"], "rate": float(row["rate"]), "distinct": row["distinct"]}
            own = {"site": as_cell(site.name), "rate": site.rate, "distinct": str(kind)}
            yield from differences(stored, own, f"sites.csv[{k}]")

    def _proves_none(self, bound: float) -> bool:
        problems = [self.sites[k].problem for k in self.kind_of.tolist()]
        least = least_value(problems, self.fleet.rates)
        return proves_none(bound, self.price, self.fleet.limit, least)

    def _bound(self, k: int) -> tuple[float, list[str]]:
        """Return what the certificate of a distinct site proves, and what is wrong with it."""
        if k not in self.proofs:
            return math.inf, [f"distinct site {k}: there is no proof"]
        site, stored = self.sites[k], Certificate.from_dict(self.proofs[k]["certificate"])
        posed = priced(site.problem, site.row, self.price)
        bare = Result(
            Status.INFEASIBLE if stored.claim == -math.inf else Status.NO_SOLUTION,
            None, None, -math.inf, stored.claim, stored,
        )  # fmt: skip
        verdict = certify(posed.problem, bare)
        words = [f"distinct site {k}: {failure}" for failure in verdict.failures]
        return posed.net(stored.claim), words

    def _plan_faults(self) -> list[str]:
        """Return what is wrong with plans, objective and use."""
        if len(self.chosen) != len(self.fleet.sites):
            return [f"{len(self.chosen)} plans for {len(self.fleet.sites)} sites"]
        faults = []
        for s, (k, stated) in enumerate(zip(self.kind_of.tolist(), self.chosen, strict=True)):
            if stated not in self._known(k):
                faults.append(
                    f"site {self.fleet.sites[s].name}: no plan has value and use {stated}"
                )
        rates = self.fleet.rates.tolist()
        value = math.fsum(r * v for r, (v, _) in zip(rates, self.chosen, strict=True))
        used = math.fsum(r * u for r, (_, u) in zip(rates, self.chosen, strict=True))
        if _above(self.claimed[0], value):
            faults.append(f"the plans are worth {value!r}, not {self.told['objective']!r}")
        if _above(used, self.fleet.limit):
            faults.append(f"the plans use {used!r} of {self.fleet.limit!r}")
        return faults

    def _known(self, k: int) -> set[tuple[float, float]]:
        """Return value and use of the feasible plans stored for a distinct site."""
        site, found = self.sites[k], set()
        for x in self.proofs.get(k, {}).get("plans", {}).values():
            vector = np.array(x, dtype=np.int64)
            if site.problem.is_feasible(vector):
                used = float(site.problem.usage_of(vector)[site.row])
                found.add((site.problem.evaluate(vector), used))
        return found


_WITH_PLAN = ("OPTIMAL", "FEASIBLE")

#: What a fleet's file says of its run: the price that the proofs are made for, the gap that was
#: asked for, and how the search went.
_FREE = ("price", "rel_gap", "solved", "rounds", "stopped")


def _above(value: float, limit: float) -> bool:
    return value > limit + _SUM * max(1.0, abs(limit))
