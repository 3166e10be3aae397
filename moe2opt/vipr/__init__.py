r"""Certificates as proofs in the open format VIPR 1.0, for checkers that know nothing of moe2opt.

The format is that of Cheung, Gleixner and Steffy, "Verifying integer programming results" (IPCO
2017); version 1.1 asks for the same first line and adds nothing that is used here. A file states a
mixed-integer linear programme, the relation to prove, solutions, and derived constraints, each with
its reason. Here the programme is the strong linear formulation
(`moe2opt.vipr.facility`, `moe2opt.vipr.choice`) in exact rationals; every leaf of the split tree
becomes one linear combination of rows, bounds and branching assumptions, rounded where the
objective is integral, and siblings are joined by resolving the branching.

A file from an OPTIMAL result proves the range ``[objective, bound]``, which is one point when the
objective is integral; otherwise it is as wide as the solver's numerical tolerance.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from typing import TextIO

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem, Problem
from moe2opt.result import Certificate, InputError, Result
from moe2opt.vipr.choice import ChoiceFormulation
from moe2opt.vipr.derive import Target, derive
from moe2opt.vipr.facility import FacilityFormulation
from moe2opt.vipr.writing import Derivations, Row, pairs

_PER_LINE = 20


@dataclass(frozen=True, slots=True)
class Exported:
    """What a VIPR file proves.

    Attributes
    ----------
    lower, upper
        Exact range of the optimum, None for an open end; both None for infeasibility.
    infeasible
        Whether the file proves that no solution exists.
    variables, constraints, derivations
        Sizes of the file's sections.
    """

    lower: Fraction | None
    upper: Fraction | None
    infeasible: bool
    variables: int
    constraints: int
    derivations: int


def is_linear(certificate: Certificate) -> bool:
    """Tell whether the proof uses only what the linear formulation contains."""
    return not (certificate.chains or certificate.types or certificate.rounded)


def write_vipr(problem: Problem, result: Result, stream: TextIO) -> Exported:
    """Write the certificate of a result as a VIPR file.

    Parameters
    ----------
    problem
        The canonical problem; facility or multiple choice.
    result
        A result of ``brb`` whose certificate was accepted by `moe2opt.certify`.
    stream
        Text stream to write to.

    Raises
    ------
    InputError
        When the result has no certificate of a tree over the linear formulation: another solver,
        a monotone problem, or a proof by dominance chains or interchangeable rows.
    CertificationError
        When a leaf does not prove what the certificate claims.
    """
    certificate = _exportable(problem, result)
    formulation = _formulation(problem, certificate)
    lower = None if result.x is None else formulation.objective_of(result.x)
    target = Target.of(certificate.claim, lower, integral=problem.is_integral)
    with tempfile.TemporaryFile("w+", encoding="ascii") as body:
        lines = Derivations(body, formulation.row_count)
        root = derive(certificate.tree, formulation, lines, target)
        _write_head(stream, problem, formulation)
        _write_relation(stream, formulation, result, lower, root.bound)
        stream.write(f"DER {lines.count}\n")
        body.seek(0)
        shutil.copyfileobj(body, stream)
    return Exported(
        lower=None if root.bound is None else lower,
        upper=root.bound,
        infeasible=root.bound is None,
        variables=len(formulation.variables),
        constraints=formulation.row_count,
        derivations=lines.count,
    )


def _exportable(problem: Problem, result: Result) -> Certificate:
    certificate = result.certificate
    if certificate is None:
        raise InputError("the result has no certificate; solve it with the solver 'brb'")
    if certificate.problem_hash != problem.fingerprint:
        raise InputError("the certificate belongs to another problem")
    if certificate.kind == "monotone" or certificate.kind != problem.kind:
        raise InputError(
            "only proofs of facility and multiple-choice problems by the solver 'brb' speak about "
            "a linear programme"
        )
    if not is_linear(certificate):
        raise InputError(
            "the proof drops dominated experts, merges interchangeable rows or rounds rows, which "
            "the linear formulation does not know; solve again with proof='linear' for one without"
        )
    return certificate


def _formulation(
    problem: Problem, certificate: Certificate
) -> FacilityFormulation | ChoiceFormulation:
    if isinstance(problem, FacilityProblem):
        return FacilityFormulation(problem, certificate)
    assert isinstance(problem, MultipleChoiceProblem)
    return ChoiceFormulation(problem, certificate)


def _write_head(
    stream: TextIO, problem: Problem, formulation: FacilityFormulation | ChoiceFormulation
) -> None:
    stream.write(f"% moe2opt: strong linear formulation of a {problem.kind} problem\n")
    stream.write(f"% sha256 of the problem: {problem.fingerprint}\n")
    stream.write("% limits of rows with fractions include the numerical slack of moe2opt\n")
    stream.write(f"VER 1.0\nVAR {len(formulation.variables)}\n")
    for names in _batches(formulation.variables):
        stream.write(" ".join(names) + "\n")
    stream.write(f"INT {len(formulation.variables)}\n")
    for numbers in _batches([str(k) for k in range(len(formulation.variables))]):
        stream.write(" ".join(numbers) + "\n")
    stream.write(f"OBJ max\n{pairs(formulation.objective)}\n")
    stream.write(f"CON {formulation.row_count} {formulation.bound_count}\n")
    for k, row in enumerate(formulation.rows()):
        stream.write(_row_text(k, row))


def _batches(texts: list[str]) -> list[list[str]]:
    return [texts[k : k + _PER_LINE] for k in range(0, len(texts), _PER_LINE)]


def _row_text(number: int, row: Row) -> str:
    return f"C{number} {row.sense} {row.limit} {pairs(row.terms)}\n"


def _write_relation(
    stream: TextIO,
    formulation: FacilityFormulation | ChoiceFormulation,
    result: Result,
    lower: Fraction | None,
    upper: Fraction | None,
) -> None:
    if upper is None:
        stream.write("RTP infeas\nSOL 0\n")
        return
    stream.write(f"RTP range {'-inf' if lower is None else lower} {upper}\n")
    if result.x is None:
        stream.write("SOL 0\n")
        return
    stream.write(f"SOL 1\nincumbent {pairs(formulation.solution(result.x))}\n")
