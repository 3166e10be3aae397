# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exact search against a MILP solver, and against rules of thumb
#
# The same problems by `brb` (this package's branch, reduce and bound), by `milp` (the strong formulation in HiGHS) and by heuristics. They must agree on the
# optimum; what differs is time, and what stands behind the bound: a certificate that a checker replays, a claim, or nothing.
#
# Times are those of one run on one machine and say little about another one; `docs/background/performance.md` measures with care. `MOE2OPT_SMOKE=1` runs less.

# %%
import json
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import moe2opt as mo
from moe2opt import plotting
from moe2opt.bench.generated import structured
from moe2opt.bench.tally import performance_profile
from moe2opt.library import find
from moe2opt.solve import versions

# %config InlineBackend.figure_formats = ["svg"]
SMOKE = os.environ.get("MOE2OPT_SMOKE") == "1"
LIMIT_S = 6.0
for name, version in versions().items():
    print(f"{name:10} {version}")

# %% [markdown]
# ## The built-in selection

# %%
REFERENCE = json.loads((find("mmlu_pro_edge").parents[1] / "reference" / "mmlu_pro_edge.json").read_text())
RECORD = {run["scenario"]: run for run in REFERENCE["scenarios"]}
SCENARIOS = ["tight"] if SMOKE else [None, "tight"]


def row(scenario, solver):
    """Return what one solver makes of one scenario."""
    edge = mo.load("mmlu_pro_edge", scenario)
    result = mo.solve(edge, solver, time_limit_s=60)
    verdict = mo.certify(edge, result)
    verdict.raise_if_failed()
    proof = "none" if result.bound == np.inf else verdict.kind
    return scenario or "as is", solver, str(result.status), result.objective, result.gap, proof, result.stats["solve_s"]


found = [row(scenario, solver) for scenario in SCENARIOS for solver in ("brb", "milp", "greedy", "local_search")]
columns = ["scenario", "solver", "status", "objective", "gap", "proof", "seconds"]
table = pd.DataFrame(found, columns=columns)
table.round({"objective": 6, "gap": 6, "seconds": 2})

# %% [markdown]
# `checked` was replayed by the checker, `claimed` is the word of HiGHS, and the heuristics say nothing about how far they are from the best plan.
#
# ## How a proof closes

# %%
edge = mo.load("mmlu_pro_edge")
result = mo.solve(edge, "brb")
figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
plotting.convergence(ax, result.log, y="correct answers", percent=True, subtitle="mmlu_pro_edge, brb, gap closed")
plt.show()

# %% [markdown]
# ## Generated problems
#
# Facility problems with the structure of skills (**synthetic**: normal skills and noise, two budgets). The profile shows the share of
# problems that each solver proves within a factor of the faster one's time.

# %%
SIZES = [(30, 100)] if SMOKE else [(30, 100), (40, 200), (60, 200)]
SEEDS = range(2)
times, values = {"brb": {}, "milp": {}}, {"brb": {}, "milp": {}}
for experts, clusters in SIZES:
    for seed in SEEDS:
        problem = structured(experts, clusters, 0.2, seed)
        case = f"{experts}/{clusters}/{seed}"
        for solver in times:
            run = mo.solve(problem, solver, time_limit_s=LIMIT_S)
            mo.certify(problem, run).raise_if_failed()
            times[solver][case] = run.stats["solve_s"] if run.status == "OPTIMAL" else LIMIT_S
            values[solver][case] = (run.objective, run.bound)

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
plotting.performance_profile(ax, performance_profile(times, LIMIT_S),
                             subtitle=f"{len(times['brb'])} generated problems, limit {LIMIT_S:.0f} s, one run each")
plt.show()
pd.DataFrame(times).round(2)

# %% [markdown]
# ## The numbers are those on record

# %%
for scenario, solver, status, objective, _, proof, _ in found:
    record = RECORD[None if scenario == "as is" else scenario]["objective"]
    if solver in ("brb", "milp"):
        assert status == "OPTIMAL" and abs(objective - record) <= 1e-6, (scenario, solver)
    assert objective <= record + 1e-9, f"{solver} beats a proven optimum"
    assert proof == {"brb": "checked", "milp": "claimed"}.get(solver, "none")
for case in values["brb"]:
    (ours, bound), (theirs, claim) = values["brb"][case], values["milp"][case]
    assert theirs <= bound * (1 + 1e-9) and ours <= claim * (1 + 1e-6), case
print(f"{len(found)} results and {len(values['brb'])} generated problems agree")
