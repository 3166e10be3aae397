"""A gate is no more than the data bear: the choice among constants, tables and regressions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info

from moe2opt.result import BoolArray, FloatArray
from moe2opt.selection.gate import Gate, GateSettings, train_gate
from moe2opt.selection.gate.calibrate import fit_calibrator
from moe2opt.selection.gate.linear_fit import LINEAR, SINGLE, TABLE, logistic
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import split_four
from moe2opt.selection.outcomes.tables import Llm

COUNT, LLMS = 1500, 4
SHARES = (0.5, 0.1, 0.2, 0.2)


def made(kind: str, *, soft: bool = False) -> OutcomeMatrix:
    """Return outcomes in which LLMs differ by nothing but their means, by category, or by text."""
    rng = np.random.default_rng(5)
    category, vectors = rng.integers(3, size=COUNT), rng.normal(size=(COUNT, 5))
    chance = np.tile(np.linspace(0.45, 0.65, LLMS), (COUNT, 1))
    if kind != SINGLE:
        chance = chance + 0.2 * (np.arange(LLMS) == category[:, None])
    if kind == LINEAR:
        chance = np.clip(chance + 0.3 * np.sign(vectors[:, :LLMS]), 0, 1)
    score = (rng.random((COUNT, LLMS)) < chance).astype(float)
    if soft:
        score = np.clip(chance + rng.normal(0, 0.25, chance.shape), 0, 1)
    return OutcomeMatrix(
        prompts=tuple(map(str, range(COUNT))),
        category=np.array(["a", "b", "c"])[category],
        prompt_tokens=np.ones(COUNT),
        llms=tuple(Llm(f"m{k}", 7, 7) for k in range(LLMS)),
        score=score,
        output_tokens=np.ones((COUNT, LLMS)),
        vectors=vectors,
    )


def trained(matrix: OutcomeMatrix, **settings: object) -> Gate:
    """Return the gate of a default split."""
    split = split_four(matrix.category, SHARES, 0)
    return train_gate(matrix, split, GateSettings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    ("kind", "words"),
    [(SINGLE, "send every prompt to"), (TABLE, "route by category here"), (LINEAR, "the text")],
)
def test_choice_is_what_the_data_bear(kind: str, words: str, soft: bool) -> None:
    """Where LLMs differ by their means, by category or by text, just that is chosen and said."""
    story = trained(made(kind, soft=soft)).record["training"]
    assert story["chosen"].startswith(kind)
    assert words in story["advice"]


@pytest.mark.parametrize("kind", [SINGLE, TABLE, LINEAR])
def test_never_worse_than_knowing_nothing(kind: str) -> None:
    """On the test part the gate scores what the better of best LLM and category table does."""
    matrix = made(kind, soft=True)
    gate, split = trained(matrix), split_four(matrix.category, SHARES, 0)
    learn, test = split.members("train", "validation"), split.members("test")
    table = matrix.category_means(matrix.score, learn)[matrix.category_of]
    single = np.broadcast_to(matrix.score[learn].mean(axis=0), matrix.score.shape)

    def routed(chances: FloatArray) -> float:
        return float(matrix.score[test, chances[test].argmax(axis=1)].mean())

    own = routed(gate.scores(matrix.vectors, matrix.category))
    assert own >= max(routed(table), routed(single)) - 0.005


def test_network_gives_way_to_a_table() -> None:
    """A network of torch that is no better than the table of categories is replaced by it."""
    pytest.importorskip("torch")
    story = trained(made(TABLE), backend="torch", epochs=5, hidden=4).record["training"]
    assert story["chosen"].startswith(TABLE)


def test_routing_is_judged_among_the_offered() -> None:
    """An LLM that may not be deployed has no say in the choice."""
    matrix = made(SINGLE)
    star = matrix.score.copy()
    right = matrix.vectors[:, 0] > 0
    star[:, 3] = right  # a gate would read this one's strength from the text
    odd = OutcomeMatrix(**{**matrix.__dict__, "score": star})
    split = split_four(odd.category, SHARES, 0)
    all_of_them = train_gate(odd, split).record["training"]["chosen"]
    offered = train_gate(odd, split, offered=["m0", "m1", "m2"]).record["training"]["chosen"]
    assert all_of_them.startswith(LINEAR)
    assert offered == SINGLE


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_logistic_is_that_of_the_library(strength: float) -> None:
    """Newton's method finds the weights that scikit-learn finds."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 6))
    score = (rng.random(300) < 1 / (1 + np.exp(-inputs[:, 0] - 1))).astype(float)
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=1000).fit(inputs, score)
    own = logistic(inputs, score, strength)
    assert own == pytest.approx([*model.coef_[0], *model.intercept_], abs=1e-5)


def order(logits: FloatArray, chances: FloatArray) -> BoolArray:
    """Return whether each row of chances is in the order of its logits."""
    ranked = np.take_along_axis(chances, logits.argsort(axis=1), axis=1)
    return np.asarray((np.diff(ranked, axis=1) >= 0).all(axis=1))


@pytest.mark.parametrize("kind", ["platt", "temperature", "isotonic"])
def test_calibration_changes_no_ranking_by_noise(kind: str) -> None:
    """On 284 prompts, calibration leaves the LLM that is rated highest where it was."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(284, 8))
    score = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    fitted = fit_calibrator(kind, logits, score)  # type: ignore[arg-type]
    assert order(logits, fitted(logits)).all()


def test_training_takes_one_thread() -> None:
    """While a gate is trained, no linear algebra library runs more than one thread."""
    matrix = made(SINGLE)
    met: set[int] = set()

    def hear(done: int, total: int, line: str) -> None:
        met.update(pool["num_threads"] for pool in threadpool_info())

    train_gate(matrix, split_four(matrix.category, SHARES, 0), on_step=hear)
    assert met == {1}
