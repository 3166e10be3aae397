"""Results and certificates: invariants, gaps, files and digests."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe2opt.result import (
    LEAF_REASONS,
    Certificate,
    Conflict,
    InputError,
    Limit,
    Multipliers,
    Relaxation,
    Result,
    Status,
    encode_float,
    relative_gap,
)

NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([math.inf, -math.inf, 0.0])


def a_certificate() -> Certificate:
    """Return a certificate that fills every field."""
    prices = Multipliers(np.array([0.5, 0.25]), np.array([1.0]), np.zeros(0))
    relaxation = Relaxation(0, 3.0, np.array([1, 0]), (("budget", 0, 0),), (prices,))
    return Certificate(
        kind="facility",
        claim=4.5,
        tree=(("split", 1, 0), ("dual", 0, 0), ("budget", 0, 0)),
        multipliers=(prices,),
        grid_bits=2,
        chains=((0, 1),),
        problem_hash="abc",
        conflict=Conflict((0,), (1,), True, (relaxation,)),
    ).sealed()


def a_result(**change: Any) -> Result:
    """Return an optimal result with the given fields replaced."""
    fields: dict[str, Any] = {
        "status": Status.OPTIMAL,
        "limit": None,
        "x": np.array([1, 0]),
        "objective": 4.5,
        "bound": 4.5,
        "certificate": a_certificate(),
        "solver": "brb",
        "stats": {"nodes": 3},
        "provenance": {"seed": 0},
    }
    return Result(**{**fields, **change})


@given(NUMBERS, NUMBERS)
def test_gap_is_always_a_number(objective: float, bound: float) -> None:
    """The relative gap is a non-negative number or ``inf``, whatever the two values are."""
    gap = relative_gap(objective, bound)
    assert gap >= 0
    assert math.isinf(gap) or (math.isfinite(objective) and math.isfinite(bound))


@pytest.mark.parametrize(
    ("objective", "bound", "gap"),
    [
        (4.0, 5.0, 0.25),
        (-4.0, -3.0, 0.25),
        (4.0, 3.9, 0.0),
        (0.0, 1e-10, 1.0),
        (0.0, 0.0, 0.0),
        (-math.inf, 5.0, math.inf),
        (5.0, math.inf, math.inf),
        (math.nan, 1.0, math.inf),
    ],
)
def test_gap_formula(objective: float, bound: float, gap: float) -> None:
    """The gap is (bound - objective) / max(|objective|, 1e-10), ``inf`` where undefined."""
    assert relative_gap(objective, bound) == pytest.approx(gap)


BROKEN_RESULTS = [
    ({"x": None}, "disagree"),
    ({"status": Status.INFEASIBLE}, "disagree"),
    ({"status": Status.NO_SOLUTION}, "disagree"),
    ({"status": Status.ERROR}, "disagree"),
    ({"bound": math.nan}, "must be numbers"),
    ({"objective": math.nan}, "must be numbers"),
    ({"bound": 4.6}, "OPTIMAL with a gap of 0.0222"),
    ({"bound": math.inf}, "OPTIMAL with a gap of inf"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN_RESULTS)
def test_contradictory_results_cannot_be_built(change: dict[str, Any], message: str) -> None:
    """A result without a plan is never OPTIMAL or FEASIBLE, and OPTIMAL implies a closed gap."""
    with pytest.raises(ValueError, match=message):
        a_result(**change)


@pytest.mark.parametrize(
    "result",
    [
        a_result(),
        a_result(status=Status.FEASIBLE, limit=Limit.TIME, bound=9.0),
        a_result(bound=4.6, rel_gap=0.05),
        a_result(
            status=Status.INFEASIBLE, x=None, objective=-math.inf, bound=-math.inf, certificate=None
        ),
        a_result(
            status=Status.NO_SOLUTION,
            limit=Limit.INTERRUPTED,
            x=None,
            objective=-math.inf,
            bound=math.inf,
            certificate=None,
        ),
    ],
    ids=["optimal", "feasible", "within the gap", "infeasible", "no solution"],
)
def test_results_survive_a_file(tmp_path: Any, result: Result) -> None:
    """Saving and loading a result keeps everything but the log, infinities included."""
    path = tmp_path / "result.json"
    result.save(path)
    again = Result.load(path)
    assert again.to_dict() == result.to_dict()
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_plans_are_written_by_themselves() -> None:
    """A plan with `to_dict` is written through it."""

    class Plan:
        def to_dict(self) -> dict[str, str]:
            return {"server": "orin"}

    assert a_result(plan=Plan()).to_dict()["plan"] == {"server": "orin"}


def test_status_and_gap_stand_in_the_summary() -> None:
    """One line of text names status, limit, objective, bound, gap and solver."""
    text = str(a_result(status=Status.FEASIBLE, limit=Limit.TIME, objective=4.0, bound=5.0))
    assert text == ("FEASIBLE (time limit)  objective 4  bound 5  gap 25.000%  solver brb")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a result: the file does not hold a JSON object"),
        ("{}", "not a result: the key 'certificate' is missing"),
        ('"\\ud800"', "half a surrogate pair is not text"),
    ],
)
def test_broken_result_files_are_named(tmp_path: Any, content: str, message: str) -> None:
    """A file that holds no result is refused with its path and the reason."""
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        Result.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("status", "FINE"),
        ("limit", "PATIENCE"),
        ("x", ["a"]),
        ("objective", "much"),
        ("bound", None),
        ("certificate", {"kind": "facility"}),
        ("certificate", {**a_certificate().to_dict(), "tree": [["split", 1]]}),
        ("stats", 3),
    ],
)
def test_broken_fields_are_input_errors(key: str, value: Any) -> None:
    """A result whose fields make no sense is an input error, never another exception."""
    with pytest.raises(InputError, match=r"not a (result|certificate)"):
        Result.from_dict({**a_result().to_dict(), key: value})


@pytest.mark.parametrize(("key", "value"), [("status", "GREAT"), ("limit", ["TIME"])])
def test_unknown_names_in_results_are_told(key: str, value: Any) -> None:
    """A status or limit that does not exist is told with its key and those that do."""
    with pytest.raises(InputError, match=rf"not a result: {key} is .*; it must be one of [A-Z]"):
        Result.from_dict({**a_result().to_dict(), key: value})


def test_inconsistent_result_files_are_refused() -> None:
    """A file that claims OPTIMAL with an open gap is refused like such a result."""
    with pytest.raises(InputError, match="OPTIMAL with a gap"):
        canonical = {"objective": 4.5, "bound": 99.0}
        Result.from_dict({**a_result().to_dict(), "bound": 99.0, "canonical": canonical})


def test_missing_result_files_are_named(tmp_path: Any) -> None:
    """A result file that is not there is an input error with its path."""
    with pytest.raises(InputError, match=r"absent\.json: No such file"):
        Result.load(tmp_path / "absent.json")


def test_binary_files_are_no_results(tmp_path: Any) -> None:
    """A file that is not UTF-8 text is refused as no text."""
    path = tmp_path / "result.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8 text"):
        Result.load(path)


def test_certificates_survive_json() -> None:
    """A certificate read back from JSON has the same content and the same digest."""
    certificate = a_certificate()
    again = Certificate.from_dict(json.loads(json.dumps(certificate.to_dict())))
    assert again.to_dict() == certificate.to_dict()
    assert again.digest == again.content_digest()


CHANGES = [
    {"kind": "monotone"},
    {"claim": 4.4},
    {"tree": (("split", 1, 0), ("dual", 0, 0), ("budget", 1, 0))},
    {"multipliers": ()},
    {"multipliers": (Multipliers(np.array([0.5, 0.5]), np.array([1.0]), np.zeros(0)),)},
    {"grid_bits": 3},
    {"chains": ((1, 0),)},
    {"problem_hash": "abd"},
    {"conflict": None},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_digest_covers_every_field(change: dict[str, Any]) -> None:
    """Changing any field of a sealed certificate makes the digest wrong."""
    changed = dataclasses.replace(a_certificate(), **change)
    assert changed.content_digest() != changed.digest


def test_sealing_twice_changes_nothing() -> None:
    """The digest does not depend on the digest that was stored before."""
    certificate = a_certificate()
    assert certificate.sealed().digest == certificate.digest


def test_leaves_are_the_records_that_do_not_split() -> None:
    """`leaves` counts the leaves of the tree."""
    assert a_certificate().leaves == 2
    assert "split" not in LEAF_REASONS


@settings(max_examples=50)
@given(NUMBERS)
def test_encoded_floats_come_back(value: float) -> None:
    """`float` undoes `encode_float`, and JSON never sees an infinity."""
    encoded = encode_float(value)
    assert float(encoded) == value
    assert isinstance(encoded, str) == math.isinf(value)
