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
# # Train once, mask later: what is true of it
#
# A gate is trained on all LLMs and masked to the ones that are deployed. When does that lose nothing? Three facts on small
# examples, then real outcomes. All statements are our own; what exactly the paper on MoE² proves is not known to us.
#
# `MOE2OPT_SMOKE=1` shortens the last part.

# %%
import itertools
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from moe2opt.library import find
from moe2opt.selection.gate import GateSettings, train_gate
from moe2opt.selection.gate.audit import compare_masked, violations
from moe2opt.selection.gate.theory import (
    COUNTEREXAMPLE,
    best_weights,
    excess_loss,
    pooled_loss,
    routed_value,
    routing_regret,
)
from moe2opt.selection.outcomes.folder import read_outcome_folder
from moe2opt.selection.outcomes.partition import split_four
from moe2opt.solve import versions

# %config InlineBackend.figure_formats = ["svg"]
SMOKE = os.environ.get("MOE2OPT_SMOKE") == "1"
for name, version in versions().items():
    print(f"{name:10} {version}")

# %% [markdown]
# ## False: the optimum of the full set is optimal on a subset
#
# One prompt, three experts, answers pooled with weights, log loss. The best weights of all three are masked to a subset and
# renormalised; beside them, the best weights of that subset.

# %%
full = best_weights(COUNTEREXAMPLE, (0, 1, 2))
rows = []
for subset in [(0, 1, 2), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,)]:
    own = best_weights(COUNTEREXAMPLE, subset)
    rows.append((subset, pooled_loss(COUNTEREXAMPLE, full, subset), pooled_loss(COUNTEREXAMPLE, own, subset)))
table = pd.DataFrame(rows, columns=["set", "masked", "fitted to the set"]).set_index("set")
table.round(4)

# %% [markdown]
# Masking loses on {0, 1}: 1.0894 against 1.0741. And **with fixed weights a larger set can be worse**: adding expert 1 to {0} raises
# the loss from 1.0771 to 1.0894. Answers of different experts are correlated, and the best weights of correlated experts
# change when one of them leaves.

# %% [markdown]
# ## True: on expert-level targets, a subset never loses more than the full set
#
# Here the gate predicts which expert is good, and each prompt's loss on a subset is the cross-entropy to the target restricted to it. For
# any gate, the excess over the least possible loss is smaller on a subset than on all experts.

# %%
rng = np.random.default_rng(0)
targets = rng.dirichlet(np.ones(5), size=300)
logits = np.log(targets) + rng.normal(scale=1.0, size=targets.shape)
everybody = excess_loss(targets, logits, range(5))
subsets = [s for k in (1, 2, 3, 4) for s in itertools.combinations(range(5), k)]
figure, axes = plt.subplots(figsize=(4.5, 4))
for size, colour in ((2, "#0072b2"), (3, "#009e73"), (4, "#d55e00")):
    part = [s for s in subsets if len(s) == size]
    excess = np.concatenate([excess_loss(targets, logits, s) for s in part])
    axes.scatter(np.tile(everybody, len(part)), excess, s=2, color=colour, alpha=0.4, rasterized=True, label=f"{size} of 5 experts")
axes.plot([0, 2], [0, 2], color="black", linewidth=0.8)
axes.set(xlabel="excess loss on all experts", ylabel="excess loss on the subset", xlim=(0, 2), ylim=(0, 2))
axes.set_title("random targets, random gates (synthetic)")
_ = axes.legend(markerscale=4, frameon=False)

# %% [markdown]
# ## True: scores off by δ lose at most 2δ; false: routed quality is monotone

# %%
chances = rng.random((20_000, 4))
delta = 0.1
estimates = chances + rng.uniform(-delta, delta, size=chances.shape)
worst = max(routing_regret(chances, estimates, s).max() for k in (2, 3, 4) for s in itertools.combinations(range(4), k))
print(f"scores off by at most {delta}: worst loss {worst:.3f} of at most {2 * delta}")

value = routed_value(chances, estimates / 0.1, (0, 1, 2))
more = routed_value(chances, estimates / 0.1, (0, 1, 2, 3))
print(f"a fourth expert makes the softmax-routed value smaller on {(more < value).mean():.1%} of the prompts")

# %% [markdown]
# ## Real outcomes
#
# The LLMs of at most 14 B on MMLU-Pro, when the data are there (a folder `shared` beside the checkout); otherwise the **synthetic** folder of
# `tiny_gate`. For random sets of LLMs: the accuracy of the masked gate and that of a gate trained on the set alone, on test prompts.

# %%
real = Path("..", "..", "shared", "data", "routing", "mmlu_pro")
folder = real if real.is_dir() else find("tiny_gate").parent / "tiny_outcomes"
source = "MMLU-Pro" if real.is_dir() else "synthetic"
outcomes = read_outcome_folder(folder)
outcomes = outcomes.restricted_to([llm.name for llm in outcomes.llms if llm.params_total_b <= 14])
split = split_four(outcomes.category, (0.5, 0.1, 0.2, 0.2), 0)
sets = [
    [outcomes.names[m] for m in rng.permutation(len(outcomes.llms))[: rng.integers(2, len(outcomes.llms))]]
    for _ in range(3 if SMOKE else 8)
]
found = {}
for head in ("sigmoid", "softmax"):
    settings = GateSettings(head=head, backend="sklearn")
    gate = train_gate(outcomes, split, settings)
    found[head] = (gate, compare_masked(outcomes, split, gate, settings, sets))
    gains = np.array([m.retrained_accuracy - m.masked_accuracy for m in found[head][1]])
    print(f"{source}, {head}: training anew gains {100 * gains.mean():+.2f} points on average, "
          f"{100 * gains.min():+.2f} to {100 * gains.max():+.2f}, over {len(sets)} sets")

# %%
figure, axes = plt.subplots(figsize=(4.5, 4))
for (head, (_, rows)), colour in zip(found.items(), ("#0072b2", "#d55e00"), strict=True):
    axes.scatter([m.masked_accuracy for m in rows], [m.retrained_accuracy for m in rows], color=colour, label=head)
ends = axes.get_xlim()
axes.plot(ends, ends, color="black", linewidth=0.8)
axes.set(xlabel="test accuracy, gate masked to the set", ylabel="test accuracy, gate trained on the set")
axes.set_title(f"{source}: each point a set of LLMs")
_ = axes.legend(frameon=False)

# %% [markdown]
# How often does one more LLM make things worse? The objective, the mean highest score, never falls. The realised accuracy
# may, because the gate can be wrong about the newcomer.

# %%
gate, _ = found["sigmoid"]
test = split.members("test")
counted = violations(gate.scores(outcomes.vectors[test], outcomes.category[test]), outcomes.score[test], 1000, seed=0)
print(f"{source}, {counted.pairs} random pairs: the objective falls in {counted.surrogate:.1%}, "
      f"the realised accuracy in {counted.realised:.1%}, by at most {100 * counted.worst:.2f} points")

# %% [markdown]
# ## What must hold

# %%
assert round(table.loc[[(0, 1)], "masked"].item(), 5) == 1.08944
assert round(table.loc[[(0, 1)], "fitted to the set"].item(), 5) == 1.07406
assert table.loc[[(0, 1)], "masked"].item() > table.loc[[(0,)], "masked"].item()
assert all((excess_loss(targets, logits, s) <= everybody + 1e-12).all() for s in subsets)
assert worst <= 2 * delta
assert counted.surrogate == 0
print("all of it holds")
