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
# # A fleet under one power budget
#
# Thousands of sites, each with servers, deadlines and plans of its own, share one budget: the power of all of them together. How many joules per prompt should each site get? A
# price on the joule decides it: every site takes the plan that is worth most at that price, and the price is moved until the budget holds. The sum of the sites' proofs
# bounds what any assignment can reach.
#
# **Synthetic:** the fleet. Its kinds of sites are variants of `mmlu_pro_edge`; how many there are and how much they are asked is drawn. `MOE2OPT_SMOKE=1`
# makes it smaller.

# %%
import json
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import moe2opt as mo
from moe2opt import plotting
from moe2opt.fleet import load_fleet, solve_fleet
from moe2opt.library import find
from moe2opt.solve import versions

# %config InlineBackend.figure_formats = ["svg"]
SMOKE = os.environ.get("MOE2OPT_SMOKE") == "1"
for name, version in versions().items():
    print(f"{name:10} {version}")

# %%
COUNT = 1000
WATTS_PER_SITE = 30.0
FLEET = f"""\
fleet: 1
name: three_kinds
row: energy_j_per_prompt
limit: {3 * COUNT * WATTS_PER_SITE}
seed: 7
sites:
  - name: office
    config: mmlu_pro_edge
    count: {COUNT}
    rate: {{low: 0.02, high: 0.2}}
  - name: clinic
    config: mmlu_pro_edge
    overrides: {{delay.limit_s: 6}}
    count: {COUNT}
    rate: {{low: 0.02, high: 0.2}}
  - name: kiosk
    config: mmlu_pro_edge
    overrides: {{llms.max_params_b: 8, delay.limit_s: 10}}
    count: {COUNT}
    rate: {{low: 0.02, high: 0.2}}
"""
folder = Path(tempfile.mkdtemp())
(folder / "fleet.yaml").write_text(FLEET, encoding="utf-8")
fleet = load_fleet(folder / "fleet.yaml")
print(f"{len(fleet.sites):,} sites, {fleet.rates.sum():.0f} prompts/s, {fleet.limit / 1000:.0f} kW: "
      f"{fleet.limit / fleet.rates.sum():.0f} J per prompt on average")

# %% [markdown]
# ## One price for all
#
# Identical problems are solved once. Every step of a site's trade-off that the bound rests on is certified.

# %%
result = solve_fleet(fleet)
answered = fleet.rates.sum()
print(f"{result.status}: {result.objective / answered:.3%} correct, at most {result.bound / answered:.3%} possible, gap {result.gap:.2%}")
print(f"certified: {result.certified}, {result.solved} problems solved for {len(fleet.sites):,} sites")
print(f"{result.used / 1000:.1f} of {result.limit / 1000:.0f} kW; one kilowatt more is worth {1000 * result.price:.2f} correct answers per second")

# %%
table = result.to_frame(fleet)
table["kind"] = table["site"].str.split("-").str[0]
table["correct"] = table["value"]
table.groupby("kind").apply(
    lambda g: pd.Series({
        "sites": len(g),
        "prompts/s": g["rate"].sum(),
        "J per prompt": np.average(g["used"], weights=g["rate"]),
        "correct (%)": 100 * np.average(g["correct"], weights=g["rate"]),
        "different plans": g["used"].nunique(),
    }),
    include_groups=False,
).round(2)

# %% [markdown]
# ## Against equal shares
#
# The obvious rule gives every prompt the same joules. What does it lose?

# %%
equal_j = fleet.limit / answered
KINDS = {"office": {}, "clinic": {"delay.limit_s": 6}, "kiosk": {"llms.max_params_b": 8, "delay.limit_s": 10}}
equal = 0.0
for kind, overrides in KINDS.items():
    site = mo.load("mmlu_pro_edge", overrides={**overrides, "energy.limit_j_per_prompt": equal_j})
    found = mo.solve(site)
    mo.certify(site, found).raise_if_failed()
    weight = table.loc[table["kind"] == kind, "rate"].sum()
    equal += weight * max(found.objective, 0.0)
print(f"equal shares: {equal / answered:.3%}; one price: {result.objective / answered:.3%}")

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for k, (kind, group) in enumerate(table.groupby("kind")):
    stairs = group.groupby("used")["correct"].first()
    weight = group.groupby("used")["rate"].sum()
    ax.scatter(stairs.index, 100 * stairs, s=2 * weight, color=plotting.COLOURS[k], marker=plotting.MARKERS[k], label=kind)
ax.axvline(equal_j, color="#555555", linestyle=":", label="equal shares")
ax.set(xlabel="energy (J per prompt)", ylabel="expected correct answers (%)")
ax.set_title("three_kinds (synthetic): plans that the sites got; area: prompts per second", fontsize=8, loc="left")
ax.legend(fontsize="small", frameon=False)
plt.show()

# %% [markdown]
# ## The numbers are those on record
#
# `problems/reference/notebooks.json` (`python docs/studies/run_notebooks.py --record`).

# %%
HEADLINE = {"objective": result.objective, "bound": result.bound, "price": result.price, "equal_shares": float(equal)}
HEADLINE

# %%
RECORD = json.loads((find("mmlu_pro_edge").parents[1] / "reference" / "notebooks.json").read_text())["08_fleet"]
assert result.certified and result.gap <= result.rel_gap
assert result.used <= result.limit * (1 + 1e-9)
assert abs(result.objective - RECORD["objective"]) <= 2 * result.rel_gap * RECORD["objective"]
assert result.objective <= RECORD["bound"] * (1 + 1e-9) and RECORD["objective"] <= result.bound * (1 + 1e-9)
assert equal <= result.bound * (1 + 1e-9), "equal shares cannot beat the proven bound"
print("reproduced:", {key: round(value, 4) for key, value in RECORD.items()})
