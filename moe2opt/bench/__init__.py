"""Benchmarks: named suites of instances, solvers and peers in processes of their own, tables.

Every run of a solver is a process with one thread and a hard limit; what it reports is evaluated
again by the canonical problem before it counts.
"""

from moe2opt.bench.cases import Case as Case
from moe2opt.bench.run import Plan as Plan
from moe2opt.bench.run import run_bench as run_bench
from moe2opt.bench.suites import SUITES as SUITES
