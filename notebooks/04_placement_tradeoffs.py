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
# # One mixture of experts on a phone: merge, prune or offload?
#
# Switch-Base-128 has 12 sparse layers of 128 experts. In 4.7 GB of memory most of them do not fit: they can be merged or pruned (which costs quality) or stay
# on flash (which costs time). Which mix makes a token fastest? `switch_base_128_phone` decides all of it at once; the two scenarios beside it may only
# offload, or only aggregate.
#
# The question is that of CoMoE (arXiv 2508.09208); model and figures are our own. **Synthetic:** the use of the experts, their distances and what merging
# costs (there is no public trace of this model), and the phone, which has the rates of a Jetson Orin Nano kit. `MOE2OPT_SMOKE=1` draws fewer points.

# %%
import json
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import moe2opt as mo
from moe2opt import plotting
from moe2opt.library import find
from moe2opt.solve import versions

# %config InlineBackend.figure_formats = ["svg"]
SMOKE = os.environ.get("MOE2OPT_SMOKE") == "1"
for name, version in versions().items():
    print(f"{name:10} {version}")

# %%
REFERENCE = json.loads((find("mmlu_pro_edge").parents[1] / "reference" / "placement.json").read_text())
LOSS_NATS = 0.05
RECORD = {row["memory_gb"]: row for row in REFERENCE["switch_base_128_front"] if row["loss_nats"] == LOSS_NATS}
MEMORY_GB = list(RECORD)[:: 3 if SMOKE else 1]
WAYS = {"joint": None, "offload_only": "offload_only", "aggregation_only": "aggregation_only"}
WHERE = "Switch-Base-128 on a phone with 68 GB/s memory and 1.4 GB/s flash (synthetic use and losses), loss at most 0.05 nats"
REL_GAP = 2e-3


def solved(memory_gb, scenario):
    """Return the certified result within a memory, as one way of working."""
    limits = {"tiers.0.capacity_gib": memory_gb * 1e9 / 2**30, "budgets.loss_nats": LOSS_NATS}
    more = {"objective": "seconds_per_token"} if scenario == "aggregation_only" else {}
    phone = mo.load("switch_base_128_phone", scenario, limits | more)
    result = mo.solve(phone, rel_gap=REL_GAP, time_limit_s=20)
    mo.certify(phone, result).raise_if_failed()
    return result


# %% [markdown]
# ## Seconds per token by memory, three ways
#
# Each point is proven to be within 0.2 % of the best plan of its way.

# %%
runs = {way: [solved(memory, scenario) for memory in MEMORY_GB] for way, scenario in WAYS.items()}
table = pd.DataFrame(
    {way: [np.nan if r.plan is None else -1e3 * r.objective for r in found] for way, found in runs.items()},
    index=pd.Index(MEMORY_GB, name="memory (GB)"),
)
table.round(2)

# %%
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
curves = [
    plotting.Curve(way.replace("_", " "), MEMORY_GB, table[way], [r.status == "OPTIMAL" for r in runs[way]])
    for way in WAYS
]
plotting.tradeoff(ax, curves, x="memory (GB)", y="time (ms per token)", subtitle=WHERE)
plt.show()

# %% [markdown]
# An empty cell (NaN): proven that this way has no plan there. Aggregation alone has to lose too many experts below the memory where the curve
# begins; offloading alone pays for every miss. Doing both is never worse, because both are special cases of it.
#
# ## Where the experts live in 4.7 GB

# %%
phone = mo.load("switch_base_128_phone")
result = mo.solve(phone, rel_gap=REL_GAP)
mo.certify(phone, result).raise_if_failed()
plan = result.plan
figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
plotting.placement_map(ax, plan, subtitle="Switch-Base-128 in 4.7 GB (synthetic use); white dots: merged into another expert")
plt.show()

# %%
pd.DataFrame([(t.name, t.experts, t.used_gib, t.share_of_uses) for t in plan.tiers],
             columns=["tier", "experts", "GiB", "share of uses"]).round(3)

# %% [markdown]
# ## What simple rules lose

# %%
rules = {b.name: b.excess for b in plan.baselines if b.feasible and b.excess is not None}
for rule, excess in sorted(rules.items(), key=lambda item: item[1]):
    print(f"{rule:30} {excess:+8.1%}")

# %% [markdown]
# ## The numbers are those on record
#
# `problems/reference/placement.json` (`docs/studies/placement_reference.py`). Two runs that are both proven within 0.2 % of the best differ by no more than that.

# %%
checked = 0
for way, found in runs.items():
    for memory, run in zip(MEMORY_GB, found, strict=True):
        record = RECORD[memory][way]
        assert (run.plan is None) == (record["objective"] is None), (way, memory)
        if run.plan is not None:
            slack = 2 * max(run.gap, record["gap"], REL_GAP) * record["objective"]
            assert abs(-run.objective - record["objective"]) <= slack, (way, memory)
        checked += 1
for way in ("offload_only", "aggregation_only"):
    worse = table[way].fillna(np.inf).to_numpy() >= table["joint"].to_numpy() * (1 - REL_GAP)
    assert worse.all(), f"{way} beats doing both"
print(f"{checked} results reproduced")
