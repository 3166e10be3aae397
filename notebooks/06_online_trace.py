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
# # When the network changes while the model runs
#
# A plan that is optimal for the mean of a day is not optimal in a tunnel. `mobile_edge` keeps Mixtral-8x7B on a portable machine, on its flash, and on an edge server
# behind a mobile network. This notebook replays a trace of that network under several policies, which plan again never, now and then, or when it seems
# worth it, and compares them with a bound that no policy can beat.
#
# **Synthetic:** the trace below (drawn here, not measured), the use of most layers' experts, the edge server's memory and latencies, and the trace of experts in the second part. The files of your own go to
# `moe2opt replay CONFIG TRACE`. `MOE2OPT_SMOKE=1` shortens the trace.

# %%
import json
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import moe2opt as mo
from moe2opt import plotting
from moe2opt.library import find
from moe2opt.replay.compare import compare as compare_policies
from moe2opt.caching.trace_reading import read_trace
from moe2opt.replay.policies import ReplaySettings
from moe2opt.caching.policies import TokenSettings, compare
from moe2opt.replay.traces.trace import build_trace
from moe2opt.solve import versions

# %config InlineBackend.figure_formats = ["svg"]
SMOKE = os.environ.get("MOE2OPT_SMOKE") == "1"
for name, version in versions().items():
    print(f"{name:10} {version}")

# %% [markdown]
# ## The trace
#
# Wi-Fi, a street with a weaker signal, a tunnel, and back; one value per second.

# %%
STEPS = 60 if SMOKE else 180
rng = np.random.default_rng(0)
time_s = np.arange(float(STEPS))
share = time_s / STEPS
PLACES = {"Wi-Fi": (0.0, 0.35, 90.0), "street": (0.35, 0.6, 20.0), "tunnel": (0.6, 0.7, 0.5), "street again": (0.7, 1.0, 60.0)}
level = np.select([share < end for _, end, _ in PLACES.values()], [rate for _, _, rate in PLACES.values()])
mbit_per_s = level * np.exp(0.25 * rng.standard_normal(STEPS))
trace = build_trace("walk", time_s, {"mbit_per_s": mbit_per_s}, source="drawn in this notebook", synthetic=True)

# %% [markdown]
# ## Three policies and a bound
#
# All start from the plan for the mean and see the measured rate only up to the moment. *static* keeps its plan, *periodic* plans every 30 s, *trigger* when the
# estimated rate leaves a band, and copying experts costs them time and a share of the link. The *clairvoyant* bound knows each second's rate and moves for nothing.

# %%
POLICIES = ["static", "periodic", "trigger"]
comparison = compare_policies(mo.load("mobile_edge"), trace, POLICIES, settings=ReplaySettings())
runs = {policy: pd.DataFrame(records) for policy, records in comparison.records.items()}


def row(policy):
    """Return what a policy comes to."""
    table = runs[policy]
    latency = table["latency_s"].astype(float)
    moved = table["bytes"].sum() / 2**30 if "bytes" in table else np.nan
    plans = int(table["replanned"].sum()) if "replanned" in table else np.nan
    return policy, latency.mean(), latency.max(), plans, moved


summary = pd.DataFrame([row(policy) for policy in runs],
                       columns=["policy", "mean (s per token)", "worst (s per token)", "plans", "copied (GiB)"]).set_index("policy")
summary.round(3)

# %%
figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
spans = [plotting.Span(STEPS * start, STEPS * end, name) for name, (start, end, _) in PLACES.items()]
plotting.timeline(upper, time_s, {"network": mbit_per_s}, y="rate (Mbit/s)", spans=spans, subtitle="synthetic trace; mobile_edge")
latency = {policy: runs[policy]["latency_s"].astype(float) for policy in runs}
plotting.timeline(lower, time_s, latency, y="latency (s per token)")
upper.set(xlabel="", yscale="log")
lower.set(yscale="log")
plt.show()

# %% [markdown]
# While the signal is good nothing is to be gained. In the tunnel the plan for the mean asks a server that hardly answers; planning again moves these uses to the
# flash, and back afterwards. A fixed interval notices late, and is late again when the signal returns.
#
# ## Which experts to keep: caches against the offline optimum
#
# Within a machine the same question comes with every token. A trace of experts is replayed through caches of growing size. Belady's rule knows the future: no cache that starts empty with
# the same slots in every layer has more hits.

# %%
path = find("mmlu_pro_edge").parents[1] / "traces" / "experts_synthetic.npz"
experts = read_trace(path)
size = experts.experts.shape[1]
CACHES = ["static", "lru", "lfu"]
SHARES = [0.25, 0.5, 0.75]
tables = {part: compare(experts, TokenSettings(slots=int(part * size * experts.n_experts)), CACHES, "belady").to_frame() for part in SHARES}
hits = pd.DataFrame({part: table["hit_rate"] for part, table in tables.items()}).T
hits.index.name = "share of the experts that fits"
hits.round(3)

# %%
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for k, cache in enumerate(hits):
    ax.plot(100 * hits.index, 100 * hits[cache], color=plotting.COLOURS[k], marker=plotting.MARKERS[k], label=cache)
ax.set(xlabel="experts that fit (%)", ylabel="uses that find their expert (%)")
ax.set_title("synthetic trace of experts, same slots in every layer", fontsize=8, loc="left")
ax.legend(fontsize="small", frameon=False)
plt.show()

# %% [markdown]
# ## The numbers are those on record
#
# `problems/reference/notebooks.json` (`python docs/studies/run_notebooks.py --record`). Plans within the same gap may differ a little, hence the tolerance.

# %%
HEADLINE = {
    "mean_latency_s": {policy: float(latency[policy].mean()) for policy in runs},
    "hit_rate": {cache: float(hits.loc[0.5, cache]) for cache in hits},
}
HEADLINE

# %%
RECORD = json.loads((find("mmlu_pro_edge").parents[1] / "reference" / "notebooks.json").read_text())["06_online_trace"]
for policy in POLICIES:
    assert (latency[policy] >= latency["clairvoyant"] * (1 - 1e-6)).all(), f"{policy} beats the bound"
for cache in CACHES:
    assert (hits[cache] <= hits["belady"] + 1e-12).all(), f"{cache} beats Belady's rule"
assert latency["trigger"].mean() < latency["static"].mean()
assert all(abs(HEADLINE["hit_rate"][name] - value) <= 1e-9 for name, value in RECORD["hit_rate"].items())
if not SMOKE:
    for name, value in RECORD["mean_latency_s"].items():
        assert abs(HEADLINE["mean_latency_s"][name] - value) <= 0.05 * value, name
print("reproduced")
