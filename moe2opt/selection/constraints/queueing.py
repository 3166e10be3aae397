r"""Waiting at a load: the Pollaczek-Khinchine formula, and its worst case over routings.

Prompts arrive at random (Poisson, :math:`\lambda` per second). A server works on one request at a
time, first come first served. With service time T its mean wait is

.. math:: W = \frac{\lambda_s\, E[T^2]}{2 (1 - \lambda_s E[T])}, \qquad \lambda_s E[T] < 1 .

How many prompts reach a server depends on the routing, which is *not* monotone in the deployed set:
another expert elsewhere may unload the server. Two quantities that do grow with the set stand in:

* every prompt goes to all experts, those of a server take turns: T is the sum of their times;
* every prompt goes to one expert, and W is the largest over all routings: each category may send
  all its prompts to the expert of the server that makes the wait longest, or elsewhere.

The second bounds the wait of whatever routing the plan ends up with.
"""

from __future__ import annotations

import math

import numpy as np

from moe2opt.canonical.validate import BUDGET_TOLERANCE
from moe2opt.result import BoolArray, FloatArray
from moe2opt.selection.constraints.measures import Use
from moe2opt.selection.lengths import Samples
from moe2opt.selection.sections import Queue

#: Seconds that stand for a wait without end: finite, so that differences of waits are numbers.
NEVER = 1e9

#: Steps of the search for the longest wait; each at least halves the distance in practice.
_STEPS = 200


def waiting_s(rate: float, first: float, second: float) -> float:
    """Return the mean wait in seconds; `NEVER` where the work arrives faster than it is done.

    Parameters
    ----------
    rate
        Requests per second.
    first, second
        First and second moment of the service time, in s and s².
    """
    if first <= 0:
        return 0.0
    if rate * first >= 1:
        return NEVER
    return min(rate * second / (2 * (1 - rate * first)), NEVER)


def wait_of_all(samples: Samples, on_server: BoolArray, rate: float) -> Use:
    """Return the wait at a server whose deployed experts all answer every prompt, in turns.

    Monotone: the sum of the times grows with the set, hence both of its moments.
    """

    def use(chosen: BoolArray) -> float:
        asked = chosen & on_server
        if not asked.any():
            return 0.0
        work = samples.busy_s[:, asked].sum(axis=1)
        return waiting_s(rate, _mixed(samples, work), _mixed(samples, work**2))

    return use


def work_shares(samples: Samples, queue: Queue) -> FloatArray:
    """Return ``(N,)`` parts of a server's allowed work that no set of its experts exceeds.

    The wait keeps w exactly if λ (E[T²] + 2 w E[T]) ≤ 2 w; for a sum T of positive times E[T²] is
    at least the sum of the second moments, so the parts of a set in budget add up to at most 1.
    """
    wait = queue.wait_limit_s * (1 + 2 * BUDGET_TOLERANCE) + 2 * BUDGET_TOLERANCE
    first = np.array([_mixed(samples, column) for column in samples.busy_s.T])
    second = np.array([_mixed(samples, column**2) for column in samples.busy_s.T])
    shares: FloatArray = queue.prompts_per_s * (second / (2 * wait) + first)
    return shares


def longest_wait(
    samples: Samples, serves: BoolArray, on_server: BoolArray, rate: float, share: float
) -> Use:
    r"""Return the longest wait at a server over all routings that send a prompt to one expert.

    Parameters
    ----------
    samples
        Times of single answers.
    serves
        ``(K, N)`` whether an expert may answer a category.
    on_server
        ``(N,)`` experts of the server.
    rate
        Prompts per second in total.
    share
        Largest share of the prompts that the server gets.

    Notes
    -----
    Monotone: another expert adds routings and takes none away. A routing sends the share
    :math:`\phi_{ki}` of all prompts, of category k to expert i; W ≤ w is linear in it,
    :math:`\sum \phi_{ki} (m^2_{ki} + 2 w m^1_{ki}) \le 2 w / \lambda`, so for a given w the
    worst routing takes the largest coefficients. The longest wait is the fixed point of "the wait
    under the worst routing for w" (Dinkelbach 1967), reached from below.
    """
    first = np.stack([samples.busy_s[rows].mean(axis=0) for rows in samples.rows])
    second = np.stack([(samples.busy_s[rows] ** 2).mean(axis=0) for rows in samples.rows])

    def use(chosen: BoolArray) -> float:
        asked = np.flatnonzero(chosen & on_server)
        if not len(asked):
            return 0.0
        open_to = serves[:, asked]
        m1, m2 = first[:, asked] * open_to, second[:, asked] * open_to
        heaviest = _worst(samples.shares, share, m1.max(axis=1), m1.max(axis=1))
        if rate * heaviest >= 1:
            return NEVER
        return _fixed_point(samples.shares, share, m1, m2, rate)

    return use


def _fixed_point(
    shares: FloatArray, share: float, m1: FloatArray, m2: FloatArray, rate: float
) -> float:
    wait = 0.0
    for _ in range(_STEPS):
        best = np.argmax(m2 + 2 * wait * m1, axis=1)
        own1, own2 = (np.take_along_axis(m, best[:, None], axis=1)[:, 0] for m in (m1, m2))
        order = own2 + 2 * wait * own1
        load = _worst(shares, share, order, own1)
        longer = waiting_s(rate, load, _worst(shares, share, order, own2))
        if longer <= wait * (1 + 1e-13):
            break
        wait = longer
    return wait


def _worst(shares: FloatArray, share: float, order: FloatArray, value: FloatArray) -> float:
    """Return the sum of `value` over the share of prompts that comes first by falling `order`."""
    left, terms = share, []
    for k in np.argsort(-order, kind="stable"):
        taken = min(left, float(shares[k]))
        terms.append(taken * float(value[k]))
        left -= taken
    return math.fsum(terms)


def _mixed(samples: Samples, values: FloatArray) -> float:
    """Return the mean over all prompts of a value of each row."""
    means = [float(values[rows].mean()) for rows in samples.rows]
    return math.fsum(p * m for p, m in zip(samples.shares.tolist(), means, strict=True))
