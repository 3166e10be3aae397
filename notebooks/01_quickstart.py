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
# # Which LLMs on four small servers?
#
# The built-in instance `mmlu_pro_edge`: 15 open LLMs of at most 14 B parameters, three precisions, two Jetson AGX Orin
# 64 GB and two RTX 4090. Which experts answer the most MMLU-Pro questions within an energy budget and a deadline?
# Every result below is certified: the checker has replayed its proof.
#
# `MOE2OPT_SMOKE=1` shortens the sweep.

# %%
import json
import os

import matplotlib.pyplot as plt

import moe2opt as mo
from moe2opt.library import find
from moe2opt.solve import versions

# %config InlineBackend.figure_formats = ["svg"]
SMOKE = os.environ.get("MOE2OPT_SMOKE") == "1"
for name, version in versions().items():
    print(f"{name:10} {version}")

# %% [markdown]
# ## Solve and check

# %%
edge = mo.load("mmlu_pro_edge")
print(edge.describe())
result = mo.solve(edge)
verdict = mo.certify(edge, result)
verdict.raise_if_failed()
print(result)
print(f"bound {verdict.bound:.6f}, {verdict.kind}: {result.certificate.leaves} leaves replayed")

# %%
result.plan.to_frame()

# %%
columns = ["category", "share_of_prompts", "predicted_accuracy", "test_accuracy", "energy_j_per_prompt", "delay_s"]
result.plan.category_frame()[columns].round(3)

# %% [markdown]
# Seconds and joules are predictions. How far they are off for what the fit has not seen comes with the plan:

# %%
for caveat in result.plan.caveats:
    print("-", caveat)

# %% [markdown]
# ## Accuracy against energy
#
# The same instance with other energy limits: the limit of one budget is swept, each problem is solved to optimality and certified. A second sweep allows a single
# expert only.

# %%
REFERENCE = json.loads((find("mmlu_pro_edge").parents[1] / "reference" / "mmlu_pro_edge.json").read_text())
LIMITS = [run["overrides"]["energy.limit_j_per_prompt"] for run in REFERENCE["energy_budget"]]
LIMITS = LIMITS[::8] if SMOKE else LIMITS


def certified(limit, **more):
    """Return the certified result for one energy limit."""
    instance = mo.load("mmlu_pro_edge", overrides={"energy.limit_j_per_prompt": limit, **more})
    result = mo.solve(instance)
    mo.certify(instance, result).raise_if_failed()
    return result


many = {limit: certified(limit) for limit in LIMITS}
one = {limit: certified(limit, max_experts=1) for limit in LIMITS}
print({str(status): sum(r.status == status for r in many.values()) for status in mo.Status})

# %%
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for runs, mark, label in ((many, "o-", "any number of experts"), (one, "s-", "one expert")):
    found = {limit: r for limit, r in runs.items() if r.plan is not None}
    axes.plot(list(found), [100 * r.objective for r in found.values()], mark, drawstyle="steps-post", label=label)
found = {limit: r.plan.test_accuracy for limit, r in many.items() if r.plan is not None}
axes.plot(list(found), [100 * a for a in found.values()], "kx", label="plans of the upper curve on the test split")
axes.set(xscale="log", xlabel="energy budget (J per prompt; GPU rail and GPU board added)", ylabel="correct answers (%)")
axes.set_title("mmlu_pro_edge, 2 x AGX Orin 64GB + 2 x RTX 4090: certified optima, gap < 1e-9", fontsize=9)
axes.legend()
plt.show()

# %% [markdown]
# The steps are what the model promises, from a training split. The crosses are what the same plans score on 2,407 prompts of the test split
# (standard error about 1 point; the loss by quantisation is not in them). They show the jump from one expert to two, and little beyond it.
#
# ## When nothing fits

# %%
broken = mo.load("mmlu_pro_edge", scenario="infeasible")
infeasible = mo.solve(broken)
mo.certify(broken, infeasible).raise_if_failed()
conflict = infeasible.certificate.conflict
print(infeasible.status)
for row in conflict.rows:
    print("cannot hold:", broken.row_names()[row], "<=", broken.problem().budgets[row])
for relaxation in conflict.relaxations:
    print("would hold: ", broken.row_names()[relaxation.row], "<=", round(relaxation.limit, 3))

# %% [markdown]
# ## The numbers are those on record
#
# `problems/reference/mmlu_pro_edge.json` holds certified results (`python docs/studies/certified_reference.py`).

# %%
def known(key, limit=None):
    """Return the recorded run of a scenario, or of an energy limit."""
    if limit is None:
        return next(run for run in REFERENCE["scenarios"] if run["scenario"] == key)
    return next(run for run in REFERENCE[key] if run["overrides"]["energy.limit_j_per_prompt"] == limit)


def agrees(result, run):
    """Tell whether a result is the recorded one, up to the precision at which a gap counts as closed."""
    if result.status != run["status"]:
        return False
    return result.plan is None or abs(result.objective - run["objective"]) <= 1e-8 * run["objective"]


assert agrees(result, known(None))
assert agrees(infeasible, known("infeasible"))
assert all(agrees(run, known("energy_budget", limit)) for limit, run in many.items())
assert all(agrees(run, known("energy_budget_one_expert", limit)) for limit, run in one.items())
print(f"{2 + len(many) + len(one)} results reproduced")
