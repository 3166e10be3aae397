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
from moe2opt.errors import DAMAGE
from moe2opt.files import MOST_BYTES, json_of, open_regular, read_json, read_text
from moe2opt.fleet.answer import FleetResult
from moe2opt.fleet.master import least_value, proves_none
from moe2opt.fleet.priced import distinct_sites, priced
from moe2opt.fleet.sites import Fleet
from moe2opt.result import Certificate, InputError, Result, Status, encode_float
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
        chosen = _chosen(folder / "sites.csv")
        return _Check(fleet, told, proofs, chosen).failures()
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{folder}: not a fleet: {type(error).__name__}: {error}") from error


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


def _chosen(path: Path) -> list[tuple[float, float]]:
    """Return value and use of each site's plan."""
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(read_text(path)))
    return [(float(row["value"]), float(row["used"])) for row in rows]


class _Check:
    def __init__(
        self,
        fleet: Fleet,
        told: dict[str, Any],
        proofs: dict[int, dict[str, Any]],
        chosen: list[tuple[float, float]],
    ) -> None:
        self.fleet, self.told, self.proofs, self.chosen = fleet, told, proofs, chosen
        self.sites, self.kind_of = distinct_sites(fleet)
        self.price = float(told["price"])

    def failures(self) -> list[str]:
        bounds, faults = [], []
        for k in range(len(self.sites)):
            bound, fault = self._bound(k)
            bounds.append(bound)
            faults += fault
        rates = self.fleet.rates
        if not faults:
            parts = [r * bounds[k] for r, k in zip(rates, self.kind_of.tolist(), strict=True)]
            bound = math.fsum(parts) + self.price * self.fleet.limit
            if _above(bound, float(self.told["bound"])):
                faults.append(f"the sites prove {bound!r}, not {self.told['bound']!r}")
            if self.told["status"] == "INFEASIBLE" and not self._proves_none(bound):
                faults.append(f"the bound {bound!r} leaves room for plans")
        return faults + (self._plan_faults() if self.told["status"] in _WITH_PLAN else [])

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
        if _above(float(self.told["objective"]), value):
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


def _above(value: float, limit: float) -> bool:
    return value > limit + _SUM * max(1.0, abs(limit))
