"""Print the tables of docs/guides/replay.md: policies on real network traces, times of a re-solve.

Usage: ``python docs/studies/replay_table.py network|resolve|merged|staging FOLDER``, with the
folder of third-party traces (``5g_ireland/traces_1hz.parquet``, ``hsdpa_fcc/bandwidth.parquet``)
for ``network`` and ``staging``. ``--only 5g`` takes one set; ``--reaction 1`` lets decisions take
effect a whole second late.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import moe2opt as mo
from moe2opt.replay.compare import compare
from moe2opt.replay.policies import ReplaySettings
from moe2opt.replay.traces.synthetic import synthetic_device
from moe2opt.replay.traces.trace import Trace, build_trace
from moe2opt.solvers.parametric import ParametricChoice

POLICIES = ("static", "periodic", "trigger", "exact-mpc", "lyapunov")


def five_g(folder: Path) -> Iterator[Trace]:
    """Yield the downloads of the 5G measurements, the first half hour of each."""
    table = pd.read_parquet(folder / "5g_ireland" / "traces_1hz.parquet")
    for name, part in table[table.app == "Download"].groupby("trace", observed=True):
        rate = part.DL_bitrate.to_numpy(dtype=float) / 1000
        yield build_trace(
            f"5g {name}", np.arange(float(len(rate))), {"mbit_per_s": rate}, repair=True
        )


def hsdpa(folder: Path) -> Iterator[Trace]:
    """Yield the different HSDPA measurements."""
    table = pd.read_parquet(folder / "hsdpa_fcc" / "bandwidth.parquet")
    for name, part in table[table.set == "cooked_3gp"].groupby("trace", observed=True):
        rate = part.mbps.to_numpy(dtype=float)
        yield build_trace(str(name), part.t_s.to_numpy(), {"mbit_per_s": rate}, repair=True)


def network(folder: Path, settings: ReplaySettings, only: str | None) -> None:
    """Print one line per trace, and what they come to."""
    instance = mo.load("mobile_edge")
    rows = []
    for kind, traces in (("5g", five_g(folder)), ("hsdpa", hsdpa(folder))):
        for trace in traces if only in (None, kind) else ():
            done = compare(instance, trace.head(1800), POLICIES, settings=settings)
            rows.append({"kind": kind, "trace": trace.name} | _figures(done.summaries()))
            print(rows[-1]["trace"], _line(rows[-1]), file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    for kind, part in [*table.groupby("kind"), ("all", table)]:
        _print(str(kind), part)


def _figures(found: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        f"{policy}.{short}": sums[key]
        for policy, sums in found.items()
        for short, key in (
            ("mean", "latency_mean_s"),
            ("p95", "latency_p95_s"),
            ("p99", "latency_p99_s"),
            ("bytes", "bytes_moved"),
            ("regret", "regret"),
            ("switches", "plan_switches"),
        )
    }


def _line(row: dict[str, float]) -> str:
    return " ".join(
        f"{p} {row[f'{p}.mean']:.3f}/{row[f'{p}.p95']:.3f}/{row[f'{p}.bytes'] / 1e9:.2f}GB"
        f"/{100 * row[f'{p}.regret']:.1f}%"
        for p in POLICIES
    )


def _print(kind: str, part: pd.DataFrame) -> None:
    print(f"\n{kind}: {len(part)} traces; mean over traces")
    print("policy     mean s   p95 s   p99 s  GB moved  regret  switches")
    for p in POLICIES:
        mean = part[[f"{p}.{k}" for k in ("mean", "p95", "p99", "bytes", "regret", "switches")]]
        m = mean.mean().to_numpy()
        print(
            f"{p:10} {m[0]:6.3f} {m[1]:7.3f} {m[2]:7.3f} {m[3] / 1e9:9.2f} {100 * m[4]:6.1f}% "
            f"{m[5]:8.1f}"
        )
    for other in ("static", "periodic"):
        mine, theirs = part["trigger.p95"], part[f"{other}.p95"]
        better, equal = mine < theirs * (1 - 1e-3), (mine / theirs - 1).abs() <= 1e-3
        print(
            f"trigger's p95 against {other}: better on {better.sum()}, within 0.1 % on "
            f"{equal.sum()}, worse on {(~better & ~equal).sum()}"
        )
    fewer = part["trigger.bytes"] <= part["periodic.bytes"] * (1 + 1e-9)
    print(f"trigger moved no more than periodic on {fewer.sum()} of {len(part)}")


def large(experts: int = 6144, seed: int = 0) -> tuple[np.ndarray, mo.MultipleChoiceProblem]:
    """Return uses of synthetic experts of different sizes, and their problem over three tiers."""
    rng = np.random.default_rng(seed)
    use = np.exp(rng.standard_normal(experts))
    use *= 128 / use.sum()
    size = np.exp(0.3 * rng.standard_normal(experts))
    usage = np.zeros((experts, 3, 2))
    usage[:, 0, 0] = usage[:, 1, 1] = size
    budgets = size.sum() * np.array([0.2, 0.35])
    values = -(use * size)[:, None] * np.array([1e-5, 2e-4, 1.5e-3])
    return use * size, mo.MultipleChoiceProblem(list(values), list(usage), budgets)


def resolve(repeats: int = 200) -> None:
    """Print seconds of warm re-solves and of cold solves of 6,144 experts on three tiers."""
    uses, problem = large()
    mo.solve(problem, rel_gap=1e-3)
    cold, exact, build = [], [], []
    for _ in range(5):
        start = time.perf_counter()
        again = mo.MultipleChoiceProblem(problem.values, problem.usage, problem.budgets)
        again.costs, again.limits, again.fingerprint  # noqa: B018
        build.append(time.perf_counter() - start)
        start = time.perf_counter()
        mo.solve(again, rel_gap=1e-3)
        cold.append(time.perf_counter() - start)
    for _ in range(2):
        start = time.perf_counter()
        mo.solve(problem)
        exact.append(time.perf_counter() - start)
    warm, sealed, gaps = [], [], []
    rng = np.random.default_rng(1)
    parametric = ParametricChoice(problem, rel_gap=1e-3)
    parametric.solve()
    for k in range(repeats):
        cost = np.array([1e-5, 2e-4, 1.5e-3]) * np.exp([0, *(0.5 * rng.standard_normal(2))])
        start = time.perf_counter()
        parametric.update(values=-np.outer(uses, cost).ravel())
        answer = parametric.solve()
        warm.append(time.perf_counter() - start)
        result = answer.result()
        sealed.append(time.perf_counter() - start)
        gaps.append(answer.gap)
        if k % 50 == 0:
            verdict = mo.certify(answer.problem, result)
            assert verdict.kind == "checked"
            assert verdict.ok
    ms = 1e3
    print(f"building the problem           {ms * np.median(build):9.2f} ms")
    print(f"cold solve to the same gap     {ms * np.median(cold):9.2f} ms")
    print(f"cold solve to the default gap  {ms * np.median(exact):9.2f} ms")
    print(
        f"warm re-solve                  {ms * np.median(warm):9.2f} ms (max {ms * max(warm):.2f})"
    )
    print(f"warm with sealed certificate   {ms * np.median(sealed):9.2f} ms")
    print(f"largest certified gap          {max(gaps):9.1e}")


def merged(traces: int = 20, duration_s: int = 60) -> None:
    """Print what policies are worth where experts may be merged, over drawn traces."""
    instance = mo.load("mobile_edge", "merged")
    rows = []
    for seed in range(traces):
        trace = synthetic_device("portable", "edge", duration_s, seed=seed)
        found = compare(instance, trace, ("static", "greedy", *POLICIES[1:])).summaries()
        rows += [{"policy": name, "trace": seed} | own for name, own in found.items()]
    for name, part in pd.DataFrame(rows).groupby("policy", sort=False):
        regret, moved = 100 * part.regret, part.bytes_moved / 1e9
        print(
            f"{name:10} {part.latency_mean_s.mean():.4f} s, {moved.mean():.2f} GB, above the bound "
            f"{regret.mean():.1f} % (median {regret.median():.1f}, most {regret.max():.1f}), "
            f"within 10 %: {(regret <= 10).sum()} of {len(part)}"
        )


def main() -> None:
    """Print the table that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=("network", "resolve", "merged", "staging"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--reaction", type=float, default=0.2)
    parser.add_argument("--only", choices=("5g", "hsdpa"))
    given = parser.parse_args()
    if given.table == "resolve":
        resolve()
        return
    if given.table == "merged":
        merged()
        return
    if given.folder is None:
        parser.error("the folder of the traces is missing")
    if given.table == "network":
        settings = ReplaySettings(reaction_s=given.reaction, tokens_per_s=1.0)
        network(given.folder, settings, given.only)
    else:
        from handover import staging_table

        trace = next(t for t in five_g(given.folder) if len(t) > 2000)
        print(staging_table(mo.load("mobile_edge"), trace.head(1200)))


if __name__ == "__main__":
    main()
