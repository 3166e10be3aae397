"""One run of one solver: what is asked, what comes back, and how both are written as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from moe2opt.bench.cases import Case
from moe2opt.files import read_json
from moe2opt.result import InputError, encode_float, relative_gap
from moe2opt.writing import write_text

#: How a run came to its end.
ENDS = ("finished", "killed", "failed", "missing", "unsupported", "too large")

#: Ends after which the run counts as unsolved; the others do not count at all.
COUNTED = ("finished", "killed", "failed", "too large")


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is asked to do.

    Attributes
    ----------
    case
        The instance.
    peer
        Name of the solver.
    seed
        Seed of the solver.
    time_limit_s, memory_limit_bytes
        Limits of the solve itself.
    rel_gap
        Relative gap that counts as closed.
    data
        Folder of third-party data.
    certify
        Whether to check the certificate, when there is one.
    cache
        Folder for instances that take long to build, None to build them every time.
    """

    case: Case
    peer: str
    seed: int = 0
    time_limit_s: float = 60.0
    memory_limit_bytes: int | None = None
    rel_gap: float = 1e-6
    data: str | None = None
    certify: bool = True
    cache: str | None = None

    def save(self, path: Path) -> None:
        """Write the job as JSON."""
        write_text(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Job:
        """Read a job written by `save`."""
        content = read_json(path)
        case = content.pop("case")
        case["size"] = tuple(case["size"])
        return cls(case=Case(**case), **content)


@dataclass(frozen=True, slots=True)
class Row:
    """What a run established, and what it took.

    Attributes
    ----------
    suite, case, peer, seed
        Which run.
    end
        One of `ENDS`.
    status
        As in `moe2opt.Status`; the peer's own claim, after its solution was evaluated again.
    objective, bound
        Value of the best solution that the canonical problem accepts, and the peer's bound.
    known, is_optimum
        Published value, if there is one.
    solve_s
        Seconds of the solver, without import, compilation of kernels and building of a model.
    cpu_s
        Processor seconds of the same; of a killed run, the limit.
    import_s, warmup_s, build_s, model_s, check_s
        Seconds to import, to compile kernels, to build the instance, to build the peer's model,
        and to check the certificate.
    certificate
        ``checked``, ``claimed`` (no certificate), ``rejected`` or empty.
    peak_bytes, before_bytes
        Peak resident memory of the process, and what it had before the solver started.
    nodes
        Nodes of the search, None where the peer does not say.
    wrong
        Why the claim cannot be true; empty if nothing speaks against it.
    note
        Remarks: why a run ended early, how the peer was used.
    fingerprint, variables
        Of the canonical problem.
    trajectory
        ``(seconds, objective, bound)``, oldest first.
    versions
        Of the packages that the peer consists of.
    """

    suite: str
    case: str
    peer: str
    seed: int
    end: str
    status: str = "NO_SOLUTION"
    objective: float = -math.inf
    bound: float = math.inf
    known: float | None = None
    is_optimum: bool = False
    solve_s: float = 0.0
    cpu_s: float = 0.0
    import_s: float = 0.0
    warmup_s: float = 0.0
    build_s: float = 0.0
    model_s: float = 0.0
    check_s: float = 0.0
    certificate: str = ""
    peak_bytes: int = 0
    before_bytes: int = 0
    nodes: int | None = None
    wrong: str = ""
    note: str = ""
    fingerprint: str = ""
    variables: int = 0
    trajectory: list[tuple[float, float, float]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Relative gap between bound and objective; ``inf`` if undefined."""
        return relative_gap(self.objective, self.bound)

    @property
    def solved(self) -> bool:
        """Whether the peer finished with a claim that nothing speaks against."""
        proven = self.status in ("OPTIMAL", "INFEASIBLE")
        return self.end == "finished" and proven and not self.wrong

    @property
    def counted(self) -> bool:
        """Whether the run counts in means: missing and unsupported peers do not."""
        return self.end in COUNTED

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content with the derived ``gap`` and ``solved``."""
        content = {f.name: _encoded(getattr(self, f.name)) for f in fields(self)}
        return {**content, "gap": encode_float(self.gap), "solved": self.solved}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Row:
        """Rebuild from `to_dict`."""
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in content.items() if k in known}
        for name in ("objective", "bound"):
            kept[name] = float(kept[name])
        kept["trajectory"] = [
            (float(t), float(o), float(b)) for t, o, b in kept.get("trajectory", [])
        ]
        try:
            return cls(**kept)
        except TypeError as error:
            raise InputError(f"not a row of a benchmark: {error}") from error


def _encoded(value: Any) -> Any:
    if isinstance(value, float):
        return encode_float(value)
    if isinstance(value, list | tuple):
        return [_encoded(entry) for entry in value]
    return value
