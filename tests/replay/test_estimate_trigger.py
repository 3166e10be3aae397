"""Estimators and triggers."""

from __future__ import annotations

import math

import pytest

from moe2opt.replay.estimate import EwmaEstimator
from moe2opt.replay.trigger import ReplanTrigger
from moe2opt.result import InputError


def test_the_estimator_follows_its_formulas() -> None:
    """Two measurements give the mean, deviation and planning value computed by hand."""
    estimator = EwmaEstimator(alpha=0.5, beta=0.25, kappa=2.0)
    estimator.observe(10.0)
    estimator.observe(20.0)
    assert estimator.mean == 15.0
    assert estimator.deviation == 0.25 * 5.0
    assert estimator.planned == 15.0 - 2.0 * 1.25


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_what_is_no_measurement_changes_nothing(value: float) -> None:
    """NaN, infinite and negative values are counted as unseen and leave the estimate alone."""
    estimator = EwmaEstimator()
    estimator.observe(value)
    assert not estimator.is_known
    assert math.isnan(estimator.planned)
    estimator.observe(5.0)
    estimator.observe(value)
    assert (estimator.mean, estimator.unseen) == (5.0, 1)


def test_planning_values_are_never_negative() -> None:
    """However large the deviation, nobody plans with a negative rate."""
    estimator = EwmaEstimator(alpha=1.0, beta=1.0, kappa=10.0)
    estimator.observe(100.0)
    estimator.deviation = 50.0
    assert estimator.planned == 0.0


def test_the_trigger_has_a_band() -> None:
    """Changes within the band do not fire, changes beyond it do, up and down alike."""
    trigger = ReplanTrigger(theta=0.5, min_interval_s=0.0)
    trigger.planned(0.0, 10.0)
    assert not trigger.fires(1.0, 14.9)
    assert not trigger.fires(1.0, 6.7)
    assert trigger.fires(1.0, 15.1)
    assert trigger.fires(1.0, 6.6)


def test_the_trigger_waits() -> None:
    """Within the shortest interval nothing fires, whatever the change."""
    trigger = ReplanTrigger(theta=0.1, min_interval_s=5.0)
    trigger.planned(0.0, 10.0)
    assert not trigger.fires(4.9, 1000.0)
    assert trigger.fires(5.0, 1000.0)


def test_the_trigger_ignores_what_it_cannot_know() -> None:
    """NaN never fires, the first known value always does, and noise near zero does not."""
    trigger = ReplanTrigger(min_interval_s=0.0, floor=1.0)
    assert not trigger.fires(0.0, math.nan)
    assert trigger.fires(0.0, 3.0)
    trigger.planned(0.0, 0.0)
    assert not trigger.fires(1.0, 0.5)


@pytest.mark.parametrize(("name", "value"), [("alpha", 0.0), ("beta", 1.5), ("kappa", -1.0)])
def test_wrong_weights_are_refused(name: str, value: float) -> None:
    """Weights outside their range are input errors that name them."""
    with pytest.raises(InputError, match=name):
        EwmaEstimator(**{name: value})


def test_wrong_bands_are_refused() -> None:
    """A negative band is an input error."""
    with pytest.raises(InputError, match="theta"):
        ReplanTrigger(theta=-0.1)
