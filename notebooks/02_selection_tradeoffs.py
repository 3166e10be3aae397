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
# # What a joule and a second buy
#
# The built-in instance `mmlu_pro_edge` again: which LLMs on four small servers, within how many joules per prompt and seconds per answer? This notebook
# draws the exact trade-off curves. Every point is certified: the checker has accepted its proof.
#
# The question is that of MoE² (arXiv 2501.09410); model and figures are our own. `MOE2OPT_SMOKE=1` draws fewer points.

# %%
import json
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import moe2opt as mo
from moe2opt import plotting
from moe2opt.library import find
from moe2opt.pareto import grid, stability
from moe2opt.solve import versions

# %config InlineBackend.figure_formats = ["svg"]
SMOKE = os.environ.get("MOE2OPT_SMOKE") == "1"
for name, version in versions().items():
    print(f"{name:10} {version}")

# %%
edge = mo.load("mmlu_pro_edge")
REFERENCE = json.loads((find("mmlu_pro_edge").parents[1] / "reference" / "mmlu_pro_edge.json").read_text())
RECORD = {run["overrides"]["energy.limit_j_per_prompt"]: run for run in REFERENCE["energy_budget"]}
LIMITS = list(RECORD)[:: 9 if SMOKE else 1]
WHERE = "mmlu_pro_edge: 15 LLMs, 2 × Jetson AGX Orin 64GB + 2 × RTX 4090; time and energy are predicted"

# %% [markdown]
# ## Accuracy by energy budget
#
# One call solves all budgets, from the largest down: the proof of a large budget bounds the smaller ones, and a plan that still fits needs no new proof.

# %%
front = mo.pareto(edge, x="energy_j_per_prompt", budgets=LIMITS)
solved = sum(point.nodes > 0 for point in front)
print(f"{len(front)} budgets, {solved} of them searched, all certified: {front.certified}")

plans = [front.plan_of(point) for point in front]
test = [np.nan if plan is None else plan["test_accuracy"] for plan in plans]
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
curves = [plotting.front_curve(front), plotting.Curve("the same plans on the test split", front.budgets, test)]
plotting.tradeoff(ax, curves, x="energy_j_per_prompt", y="correct answers", percent=True, subtitle=WHERE)
ax.set_xscale("log")
plt.show()

# %% [markdown]
# The curve is what the model promises; the crosses are what its plans score on 2,407 prompts that nothing was fitted to (standard error about one
# point; the loss by quantisation is not in them). They show the jump from one LLM to two, and little beyond it.

# %%
knee = front.points[front.knee]
print(f"knee at {knee.budget:.0f} J per prompt: {knee.objective:.1%}; the largest budget gives {front.objectives[-1]:.1%}")
cheap = mo.load("mmlu_pro_edge", overrides={"energy.limit_j_per_prompt": knee.budget})
plan = mo.solve(cheap).plan
plan.to_frame()[["llm", "precision", "server", "memory_gib", "energy_j_per_prompt", "share_of_prompts"]].round(2)

# %% [markdown]
# Who answers what with that plan:

# %%
shares, experts = plotting.routing_shares(plan, cheap.tables.weights)
figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
plotting.routing_map(ax, shares, [r.category for r in plan.by_category], experts, subtitle=WHERE)
plt.show()

# %% [markdown]
# ## What more energy is worth, and how firm the plan is
#
# What 100 J more really bought between neighbouring budgets, and the price that the certificate puts on them: the slope of a proven bound, which
# holds at every budget.

# %%
with np.errstate(invalid="ignore"):  # below the least budget there is no plan: -inf
    gain = 1e4 * np.diff(front.objectives) / np.diff(front.budgets)
table = pd.DataFrame({
    "budget (J per prompt)": front.budgets[:-1],
    "correct (%)": 100 * front.objectives[:-1],
    "points per 100 J up to the next budget": gain,
    "slope of the proven bound": [np.nan if p.value_per_unit is None else 1e4 * p.value_per_unit for p in front.points[:-1]],
})
table[np.isfinite(table["correct (%)"])].iloc[::3].round(2)

# %% [markdown]
# Joules are predictions. By how much may all of them be wrong before another plan is better, or this one does not fit?

# %%
firm = stability(edge, "energy_j_per_prompt")
print(f"the plan for 1,200 J per prompt is {firm}; certified: {firm.certified}")

# %% [markdown]
# ## Two budgets at once
#
# Energy and the deadline of an answer. A late LLM is not offered to a category, so each deadline is a problem of its own.

# %%
energy = [50, 250, 1250] if SMOKE else [30, 50, 75, 125, 200, 350, 600, 1000, 1700, 3000]
delay = [4, 20] if SMOKE else [3, 4, 6, 9, 13, 20, 30]
both = grid(edge, {"energy_j_per_prompt": energy, "delay.limit_s": delay})
print(f"{len(both)} pairs of budgets, all certified: {both.certified}, {len(both.plans)} different plans")

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
sure = np.array([cell.certified for cell in both]).reshape(both.shape)
names = {"x": "energy_j_per_prompt", "y": "delay.limit_s", "value": "correct answers"}
plotting.budget_map(ax, energy, delay, both.objectives.T, sure.T, percent=True, subtitle=WHERE, **names)
plt.show()

# %% [markdown]
# Grey: proven that no plan exists. `moe2opt report DIR --grid` makes a page of such a grid, in which both budgets can be moved.
#
# ## The numbers are those on record

# %%
assert front.certified and both.certified and firm.certified
for point in front:
    record = RECORD[point.budget]
    assert point.status == record["status"]
    assert not point.has_plan or abs(point.objective - record["objective"]) <= 1e-8
values = both.objectives
assert (np.diff(np.where(np.isfinite(values), values, -1.0), axis=0) >= -1e-9).all(), "more energy never hurts"
assert (np.diff(np.where(np.isfinite(values), values, -1.0), axis=1) >= -1e-9).all(), "neither does more time"
print(f"{len(front)} optima reproduced")
