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
# # Your own hardware
#
# Plans are as good as their seconds and joules. This notebook makes a profile of a machine that the built-in tables do not have, from the output of llama.cpp's
# own benchmark, puts that machine beside a built-in one, and asks what it is worth.
#
# The benchmark output is the example in llama.cpp's `tools/llama-bench/README.md` (an RTX 4080). That it draws 320 W under load, its board limit, is an
# assumption here. Replace the text by your own output.

# %%
import json
import os
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import moe2opt as mo
from moe2opt import plotting
from moe2opt.library import find
from moe2opt.profiles import read_profiles
from moe2opt.profiles.llamabench.reading import Told, import_llama_bench
from moe2opt.profiles.llamabench.writing import Stated, write_imported
from moe2opt.solve import versions

# %config InlineBackend.figure_formats = ["svg"]
SMOKE = os.environ.get("MOE2OPT_SMOKE") == "1"
for name, version in versions().items():
    print(f"{name:10} {version}")

# %% [markdown]
# ## From a benchmark to a profile
#
# On the command line: `moe2opt profile --import bench.md --device "my card" --bandwidth 716.8 --memory 16 --power 320 --out my_profile`.

# %%
BENCH = """
| model                          |       size |     params | backend    | ngl |            test |                  t/s |
| ------------------------------ | ---------: | ---------: | ---------- | --: | --------------: | -------------------: |
| qwen2 7B Q4_K - Medium         |   4.36 GiB |     7.62 B | CUDA       |  -1 |           pp512 |      7340.20 ± 23.45 |
| qwen2 7B Q4_K - Medium         |   4.36 GiB |     7.62 B | CUDA       |  -1 |           tg128 |        120.60 ± 0.59 |
| qwen2 7B Q4_K - Medium         |   4.36 GiB |     7.62 B | CUDA       |  -1 |    tg128 @ d512 |        116.71 ± 0.60 |
"""
folder = Path(tempfile.mkdtemp())
(folder / "bench.md").write_text(BENCH, encoding="utf-8")
imported = import_llama_bench([folder / "bench.md"], Told(device="my card"))
written, notices = write_imported(imported, folder / "my_profile", Stated(716.8, 16, 320.0))
print("written:", ", ".join(path.name for path in written))
for notice in notices:
    print("note:", notice)
runs = read_profiles(folder / "my_profile").runs
pd.DataFrame(runs)[["device", "quant", "prefill_tokens_per_s", "decode_tokens_per_s", "context_tokens"]]

# %% [markdown]
# `moe2opt profile` measures memory, disk and arithmetic of the machine that it runs on, in about a minute and without root; `docs/guides/profile-your-machine.md` says how.
#
# ## A configuration of your own
#
# One card of yours and one Jetson AGX Orin 64 GB. The outcomes are those of the built-in instance: which LLM answers which MMLU-Pro prompts.

# %%
shutil.copytree(find("mmlu_pro_edge").parent / "mmlu_pro", folder / "mmlu_pro")
CONFIG = """\
schema_version: 1
problem: selection
name: my_edge
tables: mmlu_pro
llms: {max_params_b: 14}
precisions: [{name: q8}, {name: q4}]
profiles: [my_profile, builtin]
servers:
  - {name: mine, device: my card, reserve_gib: 2, uplink_mbps: 100, downlink_mbps: 100}
  - {name: orin, device: Jetson AGX Orin 64GB, reserve_gib: 8, uplink_mbps: 100, downlink_mbps: 100}
context_gib: 1.0
energy: {limit_j_per_prompt: 900}
delay: {limit_s: 6}
"""
(folder / "my_edge.yaml").write_text(CONFIG, encoding="utf-8")
edge = mo.load(folder / "my_edge.yaml")
result = mo.solve(edge)
verdict = mo.certify(edge, result)
verdict.raise_if_failed()
print(result)
result.plan.to_frame()[["llm", "precision", "server", "memory_gib", "energy_j_per_prompt", "share_of_prompts"]].round(2)

# %% [markdown]
# What must be known to read these figures comes with the plan. One format of one model was measured, so most predictions for the card are extrapolated:

# %%
for caveat in result.plan.caveats:
    print("-", caveat)

# %% [markdown]
# ## What the card is worth
#
# The same deadline and energy budget without the card, and without the Orin:

# %%
WITHOUT = {"both": CONFIG, "without the card": "  - {name: mine", "without the Orin": "  - {name: orin"}


def value(text):
    """Return the certified share of correct answers of a configuration, 0 where no plan exists."""
    (folder / "variant.yaml").write_text(text, encoding="utf-8")
    instance = mo.load(folder / "variant.yaml")
    found = mo.solve(instance)
    mo.certify(instance, found).raise_if_failed()
    return found.objective if found.plan is not None else 0.0


worth = {}
for name, start in WITHOUT.items():
    kept = [line for line in CONFIG.splitlines() if name == "both" or not line.startswith(start)]
    worth[name] = value("\n".join(kept) + "\n")
figure, ax = plt.subplots(figsize=(6, 2.4), layout="constrained")
ax.barh(list(worth)[::-1], [100 * v for v in worth.values()][::-1], color=plotting.COLOURS[0])
ax.set(xlabel="expected correct answers (%)")
ax.set_title("900 J per prompt, 6 s per answer; certified", fontsize=8, loc="left")
plt.show()

# %% [markdown]
# ## The numbers are those on record
#
# `problems/reference/notebooks.json` (`python docs/studies/run_notebooks.py --record`).

# %%
HEADLINE = {name: round(share, 9) for name, share in worth.items()}
HEADLINE

# %%
RECORD = json.loads((find("mmlu_pro_edge").parents[1] / "reference" / "notebooks.json").read_text())["07_your_own_hardware"]
assert worth.keys() == RECORD.keys()
assert all(abs(worth[name] - RECORD[name]) <= 1e-7 for name in RECORD)
assert worth["both"] >= max(worth.values()), "a machine more never hurts"
print("reproduced:", RECORD)
