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
# # Your monotone problem
#
# More replicas never make a service less available, more power never makes a link slower while the others stay as they are. Whoever has such functions of whole numbers has a
# monotone problem, and needs no linear model of it. Two of them here, each twice: as **oracles** (functions in code, of which nothing is known but that they rise) and from **declared parts**, which say
# what the functions are made of. Both give the same optimum with a proof that a checker replays; parts give it sooner. At the end, what happens to a function that does not rise.
#
# **Synthetic:** all numbers.

# %%
import matplotlib.pyplot as plt
import numpy as np

import moe2opt as mo
from moe2opt.solve import versions

# %config InlineBackend.figure_formats = ["svg"]
for name, version in versions().items():
    print(f"{name:10} {version}")


def report(title, problem, **options):
    """Solve, check and print one line."""
    result = mo.solve(problem, **options)
    verdict = mo.certify(problem, result)
    verdict.raise_if_failed()
    nodes = result.stats["nodes"]
    print(f"{title:18} {result.status}  {result.objective:.6f}  {nodes:4} nodes  {verdict.kind}")
    return result


# %% [markdown]
# ## Replicas
#
# A chain of eight services answers when every one of them does. A replica of service $i$ is up with probability $a_i$, so $x_i$ of them fail together with $(1 - a_i)^{x_i}$. Replicas need memory and
# power, of which there is so much. How many of each?

# %%
up = np.array([0.90, 0.75, 0.85, 0.80, 0.95, 0.70, 0.88, 0.92])
memory_gib = np.array([4, 2, 6, 3, 8, 2, 5, 4])
watts = np.array([30, 55, 25, 40, 20, 60, 35, 45])
GIB, WATTS = 75, 760
most = np.full(8, 5)

# %% [markdown]
# As oracles: batched functions that take an array of points, one per row. A constraint is fulfilled where it is at most 0.

# %%
oracles = mo.MonotoneProblem(
    lower=np.ones(8, dtype=int),
    upper=most,
    objective=lambda x: np.prod(1 - (1 - up) ** x, axis=1),
    constraints=[lambda x: x @ memory_gib - GIB, lambda x: x @ watts - WATTS],
)
replicas = report("oracles", oracles)

# %% [markdown]
# From parts: a product of functions of one variable each, and linear rows. That is separable, so it is solved as the multiple-choice problem that it is.

# %%
parts = mo.parts
availability = parts.product([lambda x, a=a: 1 - (1 - a) ** x for a in up])
chain = mo.MonotoneProblem.from_parts(
    np.ones(8, dtype=int),
    most,
    availability,
    at_most=[(parts.linear(memory_gib), GIB), (parts.linear(watts), WATTS)],
)
declared = report("parts", chain)
assert np.isclose(declared.objective, replicas.objective, rtol=1e-9, atol=0)
print(
    "replicas",
    declared.x.tolist(),
    "GiB",
    int(declared.x @ memory_gib),
    "W",
    int(declared.x @ watts),
)

# %% [markdown]
# What would more memory be worth? The budget is an argument, the question is asked again.

# %%
budgets = range(50, 111, 5)
reached = []
for gib in budgets:
    rows = [(parts.linear(memory_gib), gib), (parts.linear(watts), WATTS)]
    problem = mo.MonotoneProblem.from_parts([1] * 8, most, availability, at_most=rows)
    reached.append(mo.solve(problem).objective)

# %% [markdown]
# ## Power control
#
# Five links share a channel. Each sends at one of six levels; what one sends is noise to the others. The signal-to-interference ratio of link $i$ is
# $g_{ii} p_i / (n + \sum_{j \ne i} g_{ij} p_j)$, and its rate $\log_2(1 + \text{SINR}_i)$. The sum of rates is *not* monotone: power helps one and harms the others. It is **mixed monotone**: with the own power
# in one argument and the interfering one in the other, $F(x, y)$ rises in $x$ and falls in $y$.

# %%
LINKS, LEVELS, NOISE = 5, 6, 0.1
rng = np.random.default_rng(4)
gain = rng.uniform(0.02, 0.25, (LINKS, LINKS))
gain[np.diag_indices(LINKS)] = rng.uniform(0.6, 1.0, LINKS)
own, cross = np.diag(gain), gain - np.diag(np.diag(gain))


def rates(x, y):
    """Return ``(B, links)`` rates of levels x among interferers y."""
    return np.log2(1 + own * x / (NOISE + y @ cross.T))


bounds = {"lower": np.zeros(LINKS, dtype=int), "upper": np.full(LINKS, LEVELS - 1)}
power = [lambda x: x.sum(axis=1) - 14]
mixed = mo.MonotoneProblem(
    **bounds, mixed_objective=lambda x, y: rates(x, y).sum(axis=1), constraints=power
)
shared = report("oracle F(x, y)", mixed)
print(
    "levels", shared.x.tolist(), "rates", rates(shared.x[None], shared.x[None])[0].round(2).tolist()
)

# %% [markdown]
# From parts: $\prod_i (1 + \text{SINR}_i)$ is a **ratio** of two rising functions, what a receiver hears with its own signal and without it. Its logarithm is the sum of rates, so both have the same optimum. Here
# the oracle is better: it bounds every link by itself, the ratio all of them together.

# %%
heard = parts.increasing(lambda x: np.prod(1 + x @ gain.T / NOISE, axis=1))
disturbed = parts.increasing(lambda x: np.prod(1 + x @ cross.T / NOISE, axis=1))
quotient = mo.MonotoneProblem.from_parts(
    *bounds.values(), parts.ratio(heard, disturbed), at_most=[(parts.linear(np.ones(LINKS)), 14)]
)
ratio = report("ratio of parts", quotient)
assert np.isclose(np.log2(ratio.objective), shared.objective, rtol=1e-9, atol=0)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), constrained_layout=True)
left.plot(budgets, reached, "o-", ms=3)
left.set(xlabel="memory (GiB)", ylabel="availability of the chain")
full = np.full((1, LINKS), LEVELS - 1)
width = 0.4
right.bar(np.arange(LINKS) - width / 2, rates(full, full)[0], width, label="full power")
right.bar(
    np.arange(LINKS) + width / 2, rates(shared.x[None], shared.x[None])[0], width, label="plan"
)
right.set(xlabel="link", ylabel="rate (bit/s/Hz)")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A function that does not rise
#
# The proofs rest on it, so look before you trust. Somebody counts what replicas cost in coordination: `find_counterexample` names the place.

# %%
slipped = mo.MonotoneProblem(
    lower=np.ones(8, dtype=int),
    upper=most,
    objective=lambda x: np.prod(1 - (1 - up) ** x, axis=1) - 0.002 * (x**2).sum(axis=1),
    constraints=oracles.constraints,
)
print(mo.find_counterexample(oracles))
print(mo.find_counterexample(slipped))

# %% [markdown]
# Parts are looked at when they are declared.

# %%
try:
    mo.MonotoneProblem.from_parts(
        [1, 1], [5, 5], parts.total([lambda x: np.log(x) - 0.1 * x**2, lambda x: np.log(x)])
    )
except mo.InputError as error:
    print(error)
