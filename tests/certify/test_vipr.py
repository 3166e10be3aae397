"""Proofs in the format VIPR: whatever is exported, an independent reader accepts."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import choice_problems, facility_problems
from typer.testing import CliRunner
from vipr_reader import Checked, RefusedError, check_file, check_text

import moe2opt as mo
from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.cli import app
from moe2opt.result import InputError
from moe2opt.vipr import write_vipr
from moe2opt.vipr.derive import PRECISIONS
from moe2opt.vipr.exact import exact_limits, shortened

BOUNDS = st.sampled_from(["auto", "corner"])
PROBLEMS = st.one_of(facility_problems(), choice_problems())

#: The sum of x and y is at most 3/2, hence 1 in integers: a proof in six derived constraints.
BY_HAND = """% a comment
VER 1.0
VAR 2
x y
INT 2
0 1
OBJ max
2 0 1 1 1
CON 3 2
lx G 0 1 0 1
ly G 0 1 1 1
cap L 3/2 2 0 1 1 1
RTP range 1 1
SOL 1
s 1 0 1
DER 6
a L 0 1 0 1 { asm } -1
b G 1 1 0 1 { asm } -1
c L 3/2 OBJ { lin 1 2 1 } -1
d L 1 OBJ { rnd 1 5 1 } -1
e L 1 OBJ { lin 2 6 1 3 0 } -1
f L 1 OBJ { uns 7 3 6 4 } -1
"""


def exported(problem: Any, result: mo.Result) -> tuple[Any, str]:
    """Return what the exporter says and what it wrote."""
    stream = io.StringIO()
    return write_vipr(problem, result, stream), stream.getvalue()


def check(problem: Any, result: mo.Result) -> Checked:
    """Export, read back, and compare what is proven with the result."""
    said, text = exported(problem, result)
    found = check_text(text)
    assert (found.infeasible, found.lower, found.upper) == (said.infeasible, said.lower, said.upper)
    assert (found.variables, found.derived) == (said.variables, said.derivations)
    assert found.infeasible == (result.bound == -math.inf)
    if not found.infeasible:
        assert found.upper is not None
        assert float(found.upper) <= result.bound + 1e-12 * abs(result.bound)
        assert (found.lower is None) == (result.x is None)
        assert found.lower is None or float(found.lower) == result.objective
    return found


def best_of(problem: Any) -> float:
    """Return the optimum by enumeration, ``-inf`` if there is none."""
    return mo.solve(problem, "enumerate").objective


def structured(experts: int, clusters: int, seed: int) -> FacilityProblem:
    """Return an instance with latent skills: larger experts are better and cost more."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0, 1, experts)
    skill = 0.6 * rng.normal(size=(experts, 6)) + 1.5 * size[:, None]
    need = rng.dirichlet(np.full(6, 0.5), clusters)
    noise = 0.3 * rng.normal(size=(clusters, experts))
    values = np.round(1000 / (1 + np.exp(1 - 2 * need @ skill.T - noise)))
    costs = np.round(10 + 90 * size * rng.uniform(0.7, 1.3, (2, experts)))
    return FacilityProblem(values, costs, np.floor(0.15 * costs.sum(axis=1)))


def correlated(groups: int, seed: int) -> MultipleChoiceProblem:
    """Return an instance with five options per group, whose values follow their use."""
    rng = np.random.default_rng(seed)
    usage = [rng.integers(1, 100, (5, 2)).astype(float) for _ in range(groups)]
    values = [np.round(use.sum(axis=1) * rng.uniform(0.5, 1.5, 5)) for use in usage]
    budgets = np.floor(0.8 * np.sum([use.mean(axis=0) for use in usage], axis=0))
    return MultipleChoiceProblem(values, usage, budgets)


# ---------------------------------------------------------------------- the reader


def test_reader_accepts_a_proof_by_hand() -> None:
    """A small file with every reason in it is accepted."""
    assert check_text(BY_HAND) == Checked(False, Fraction(1), Fraction(1), 2, 6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("range 1 1", "range 0 0"),
        ("range 1 1", "range 2 2"),
        ("s 1 0 1", "s 1 0 1/2"),
        ("s 1 0 1", "s 2 0 1 1 1"),
        ("s 1 0 1", "s 0"),
        ("lin 1 2 1", "lin 1 2 1/2"),
        ("lin 1 2 1", "lin 2 2 1 0 1"),
        ("c L 3/2 OBJ", "c L 1 OBJ"),
        ("INT 2\n0 1", "INT 1\n0"),
        ("lin 2 6 1 3 0", "lin 2 6 1 4 1"),
        ("uns 7 3 6 4", "uns 7 3 6 3"),
        ("uns 7 3 6 4", "uns 7 3 8 4"),
        ("uns 7 3 6 4", "uns 7 4 6 3"),
        ("b G 1 1 0 1", "b G 2 1 0 1"),
        ("b G 1 1 0 1", "b G 1 1 1 1"),
        ("e L 1 OBJ { lin 2 6 1 3 0 }", "e L 1 OBJ { asm }"),
        ("DER 6", "DER 5"),
        ("e L 1", "d L 1"),
        ("VER 1.0", "VER 2.0"),
    ],
)
def test_reader_refuses(old: str, new: str) -> None:
    """Each rule of the format, when broken, makes the reader refuse the file."""
    assert old in BY_HAND
    with pytest.raises(RefusedError):
        check_text(BY_HAND.replace(old, new))


# ---------------------------------------------------------------------- random instances


@settings(max_examples=120)
@given(PROBLEMS, BOUNDS)
def test_complete_proofs(problem: Any, bound: str) -> None:
    """A finished run is proven: the range holds the optimum, and is one point on integers."""
    result = mo.solve(problem, "brb", proof="linear", bound=bound)
    found = check(problem, result)
    best = best_of(problem)
    assert found.infeasible == (best == -math.inf)
    if not found.infeasible:
        assert found.lower is not None
        assert found.upper is not None
        assert found.lower <= found.upper
        assert float(found.lower) == pytest.approx(best, rel=2e-9, abs=1e-12)
        assert found.lower == found.upper or not problem.is_integral
        assert found.upper - found.lower <= Fraction(3e-9) * max(abs(found.lower), 1)


@settings(max_examples=60)
@given(PROBLEMS, BOUNDS, st.integers(0, 3))
def test_proofs_at_a_limit(problem: Any, bound: str, nodes: int) -> None:
    """A run stopped by a node limit exports its bound, which is at least the optimum."""
    result = mo.solve(problem, "brb", proof="linear", bound=bound, node_limit=nodes)
    if result.certificate is None:
        return
    found = check(problem, result)
    best = best_of(problem)
    assert best == -math.inf or not found.infeasible
    if found.upper is not None:
        assert float(found.upper) >= best - 1e-12 * abs(best)


def test_groups_and_covers_are_rows() -> None:
    """At most one of a group and at least one of a cover are proven with, not assumed."""
    problem = FacilityProblem(
        values=[[9, 8, 7, 1], [1, 8, 3, 9], [4, 4, 9, 2]],
        costs=[[1, 1, 1, 1]],
        budgets=[3],
        groups=[[0, 1, 2], [2, 3]],
        covers=[[0, 3], [1, 2]],
    )
    found = check(problem, mo.solve(problem, "brb", proof="linear"))
    assert found.lower == found.upper == Fraction(best_of(problem))


@pytest.mark.parametrize("scenario", [None, "rich", "shared", "infeasible"])
def test_built_in_problem(scenario: str | None) -> None:
    """Every scenario of the built-in tiny problem has an accepted proof."""
    problem = mo.load("tiny", scenario=scenario).problem()
    result = mo.solve(problem, "brb", proof="linear")
    assert check(problem, result).infeasible == (scenario == "infeasible")


def test_structured_instance() -> None:
    """A structured instance of 20 experts and 40 clusters is proven to one point."""
    problem = structured(20, 40, seed=0)
    found = check(problem, mo.solve(problem, "brb", proof="linear"))
    assert found.lower == found.upper


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(structured(50, 200, 0), id="facility 50x200 seed 0"),
        pytest.param(structured(50, 200, 1), id="facility 50x200 seed 1"),
        pytest.param(correlated(200, 0), id="choice 200"),
    ],
)
def test_larger_instances(problem: Any, tmp_path: Path) -> None:
    """Structured facility problems of 50 x 200 and 200 groups of options are proven."""
    result = mo.solve(problem, "brb", proof="linear")
    with (tmp_path / "proof.vipr").open("w", encoding="ascii") as stream:
        said = write_vipr(problem, result, stream)
    found = check_file(tmp_path / "proof.vipr")
    assert found.lower == found.upper == said.upper == Fraction(result.objective)


# ---------------------------------------------------------------------- changed files


def changed_number(words: list[str], rng: random.Random) -> list[str]:
    """Return the words with one number of the derivations changed."""
    first = words.index("DER") + 2
    numbers = [
        k
        for k in range(first, len(words))
        if words[k].lstrip("-").replace("/", "").isdigit() and words[k + 1 : k + 2] != []
    ]
    k = rng.choice(numbers)
    return [*words[:k], str(Fraction(words[k]) + rng.choice([-3, -1, 1, 2])), *words[k + 1 :]]


def dropped_line(text: str, rng: random.Random) -> str:
    """Return the text without one derived constraint, the count adjusted."""
    head, tail = text.split("\nDER ")
    count, *lines = tail.splitlines()
    del lines[rng.randrange(len(lines))]
    return "\n".join([f"{head}\nDER {int(count) - 1}", *lines])


def other_range(text: str) -> str:
    """Return the text with an upper bound that is smaller by one."""
    words = text.split()
    at = words.index("RTP") + 3
    words[at] = str(Fraction(words[at]) - 1)
    words[at - 1] = "-inf"
    return text.replace(
        text[text.index("RTP") : text.index("SOL")], f"RTP range -inf {words[at]}\n"
    )


@pytest.mark.parametrize("problem", [structured(12, 15, 3), correlated(8, 3)], ids=lambda p: p.kind)
def test_changed_files_prove_no_more(problem: Any) -> None:
    """No change of a number makes the reader accept a wrong bound; most are refused outright."""
    result = mo.solve(problem, "brb", proof="linear")
    _, text = exported(problem, result)
    words = [word for line in text.splitlines() if line[0] != "%" for word in line.split()]
    rng = random.Random(1)
    refused = 0
    for _ in range(60):
        try:
            found = check_text(" ".join(changed_number(words, rng)))
        except RefusedError:
            refused += 1
        else:
            assert found.upper == Fraction(result.objective)
    assert refused >= 30
    with pytest.raises(RefusedError):
        check_text(other_range(text))
    with pytest.raises(RefusedError):
        check_text(text[: text.rindex("\nD")])
    with pytest.raises(RefusedError):
        check_text(dropped_line(text, rng))


# ---------------------------------------------------------------------- what is refused


def test_other_proofs_are_refused() -> None:
    """Only trees over the linear formulation are exported; the message says how to get one."""
    chained = FacilityProblem([[1, 2], [2, 3]], [[1, 1]], [1])
    result = mo.solve(chained, "brb")
    assert result.certificate is not None
    assert result.certificate.chains
    with pytest.raises(InputError, match="proof='linear'"):
        exported(chained, result)
    proof = mo.solve(chained, "brb", proof="linear")
    assert proof.certificate is not None
    rounded = dataclasses.replace(proof.certificate, rounded=((0, 1),)).sealed()
    with pytest.raises(InputError, match="rounds rows"):
        exported(chained, dataclasses.replace(proof, certificate=rounded))
    with pytest.raises(InputError, match="no certificate"):
        exported(chained, mo.solve(chained, "milp"))
    with pytest.raises(InputError, match="another problem"):
        exported(FacilityProblem([[1, 2]], [[1, 1]], [1]), result)
    with pytest.raises(InputError, match="linear programme"):
        exported(chained, mo.solve(chained, "polyblock"))


def test_linear_proofs_use_no_chains() -> None:
    """`proof='linear'` gives the same optimum without dominance or merged rows."""
    problem = FacilityProblem([[1, 2], [2, 3]], [[1, 0], [0, 1]], [1, 1])
    result = mo.solve(problem, "brb", proof="linear")
    assert result.certificate is not None
    assert (result.certificate.chains, result.certificate.types) == ((), ())
    assert result.objective == mo.solve(problem, "brb").objective
    with pytest.raises(InputError, match="proof"):
        mo.solve(problem, "brb", proof="short")


def test_wrong_certificates_are_refused() -> None:
    """A certificate whose leaves do not reach its claim is not exported."""
    problem = correlated(6, 0)
    result = mo.solve(problem, "brb", proof="linear")
    assert result.certificate is not None
    wrong = dataclasses.replace(result.certificate, claim=result.bound / 2)
    with pytest.raises(mo.CertificationError, match="claimed"):
        exported(
            problem,
            dataclasses.replace(result, certificate=wrong, x=None, status=mo.Status.NO_SOLUTION),
        )


# ---------------------------------------------------------------------- exact numbers


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=6),
    st.sampled_from([1.0, 0.1, 1 / 3, 1e-3]),
    st.integers(0, 60),
)
def test_exact_limits_decide_as_rounded_sums_do(
    whole: list[int], scale: float, tenths: int
) -> None:
    """An exact sum meets the exact limit if and only if its rounded value meets the limit."""
    row = np.array(whole, dtype=np.float64) * scale
    limit = float(tenths * scale)
    exact = exact_limits(row[None, :], np.array([limit]))[0]
    for subset in range(2 ** len(row)):
        terms = [row[k] for k in range(len(row)) if subset >> k & 1]
        fits = sum(map(Fraction, terms), Fraction(0)) <= exact
        assert fits == (math.fsum(terms) <= limit)


def test_shortened_numbers_are_close() -> None:
    """Multipliers keep the asked number of leading digits, and all of them without a number."""
    values = np.array([0.0, 1 / 3, 1e-30, 12345.678])
    for bits in PRECISIONS:
        error = np.abs(shortened(values, bits) - values)
        assert (error <= values * 2.0 ** -(bits or 60)).all()
    assert (shortened(values, None) == values).all()


# ---------------------------------------------------------------------- the command line


@pytest.fixture
def solved(tmp_path: Path) -> Path:
    """Folder with a result of the built-in tiny problem."""
    ran = CliRunner().invoke(app, ["solve", "tiny", "--solver", "brb", "--out", str(tmp_path)])
    assert ran.exit_code == 0
    return tmp_path


def certificate(*arguments: object) -> Any:
    """Run the verb."""
    return CliRunner().invoke(app, ["certificate", *map(str, arguments)])


def test_verb_writes_a_file(solved: Path) -> None:
    """`certificate --to vipr --out` writes an accepted file and nothing else."""
    before = set(solved.iterdir())
    ran = certificate(solved / "result.json", "tiny", "--to", "vipr", "--out", solved / "p.vipr")
    assert ran.exit_code == 0, ran.output
    assert set(solved.iterdir()) - before == {solved / "p.vipr"}
    objective = json.loads((solved / "result.json").read_text())["objective"]
    assert float(check_file(solved / "p.vipr").lower or 0) == objective


def test_verb_writes_to_stdout(solved: Path) -> None:
    """Without `--out` the proof, and only the proof, is on stdout."""
    ran = certificate(solved / "result.json", "tiny", "--quiet")
    assert ran.exit_code == 0
    assert check_text(ran.stdout).upper is not None


def test_verb_proves_again_where_needed(tmp_path: Path) -> None:
    """A proof by dominance is replaced by one without, for the same optimum."""
    from moe2opt.canonical import save_problem

    problem = FacilityProblem([[1, 2], [2, 3], [5, 6]], [[1, 2]], [2])
    save_problem(problem, tmp_path / "p.json")
    result = mo.solve(problem, "brb")
    assert result.certificate is not None
    assert result.certificate.chains
    result.save(tmp_path / "result.json")
    flags = ("--out", tmp_path / "p.vipr", "--json", "--quiet", "--time-limit", 60)
    ran = certificate(tmp_path / "result.json", tmp_path / "p.json", *flags)
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["upper"] == "11"
    assert check_file(tmp_path / "p.vipr").upper == 11


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--to", "pdf"), 2, "unknown format"),
        (("--json",), 2, "--out"),
        (("--out", "absent/p.vipr"), 2, "absent"),
    ],
)
def test_verb_refuses(solved: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    """Wrong arguments are told in one line."""
    ran = certificate(solved / "result.json", "tiny", *arguments)
    assert ran.exit_code == code
    assert message in ran.stderr
    assert "Traceback" not in ran.output


def test_verb_checks_first(solved: Path) -> None:
    """A result that the checker rejects is not exported."""
    path = solved / "result.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["certificate"]["tree"].append(["corner", 0, 0])
    path.write_text(json.dumps(content), encoding="utf-8")
    ran = certificate(path, "tiny", "--out", solved / "p.vipr")
    assert ran.exit_code == 6
    assert "digest" in ran.stderr
    assert not (solved / "p.vipr").exists()
