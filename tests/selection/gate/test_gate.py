"""The gate: training, calibration, storage."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.result import InputError
from moe2opt.selection.gate import Gate, GateSettings, hashed_text, load_gate, measure, train_gate
from moe2opt.selection.gate.calibrate import fit_calibrator, sigmoid
from moe2opt.selection.gate.losses import Data, softmax_loss, softmax_targets
from moe2opt.selection.gate.measures import simplest
from moe2opt.selection.gate.tensors import read_tensors, write_tensors
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import PARTS, Split, split_four

BACKENDS = ("sklearn", "torch")


def settings_of(backend: str, **more: object) -> GateSettings:
    """Return quick settings; skip where the backend is not installed."""
    if backend == "torch":
        pytest.importorskip("torch")
        more = {"epochs": 60, "hidden": 8, "learning_rate": 0.01, **more}
    return GateSettings(backend=backend, **more)  # type: ignore[arg-type]


def test_split_is_stratified(matrix: OutcomeMatrix, split: Split) -> None:
    """Every category is split in the shares asked for, up to one prompt for each cut."""
    for name in matrix.categories:
        own = split.part[matrix.category == name]
        for part, share in enumerate(split.shares):
            assert abs((own == part).sum() - share * len(own)) <= 2


def test_split_keeps_selection_and_test_parts(matrix: OutcomeMatrix) -> None:
    """Taking more prompts for validation moves none of the selection and test parts."""
    small = split_four(matrix.category, (0.55, 0.05, 0.2, 0.2), 3)
    large = split_four(matrix.category, (0.4, 0.2, 0.2, 0.2), 3)
    for part in ("select", "test"):
        assert small.members(part).tolist() == large.members(part).tolist()
    assert len(small.members("validation")) < len(large.members("validation"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_gate_beats_the_best_llm(
    matrix: OutcomeMatrix, split: Split, backend: str, head: str
) -> None:
    """On prompts it has not seen, routing by the gate beats the best single LLM in hindsight."""
    gate = train_gate(matrix, split, settings_of(backend, head=head))
    test = gate.record["measures"]["test"]
    assert test["routed_accuracy"] > test["best_single_accuracy"] + 0.03


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_repeats(matrix: OutcomeMatrix, split: Split, backend: str) -> None:
    """The same data, settings and seed give the same numbers to the last bit."""
    first, second = (train_gate(matrix, split, settings_of(backend, seed=5)) for _ in range(2))
    assert np.array_equal(
        first.scores(matrix.vectors, matrix.category),
        second.scores(matrix.vectors, matrix.category),
    )
    assert first.record == second.record


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_missing_outcomes_are_masked(
    matrix: OutcomeMatrix, split: Split, backend: str, head: str
) -> None:
    """An LLM that was not run on a third of the prompts is rated as if it had been run on all."""
    holes = matrix.score.copy()
    holes[::3, 0] = np.nan
    chosen = settings_of(backend, head=head)
    full, holed = (
        train_gate(m, split, chosen).scores(matrix.vectors, matrix.category)[:, 0]
        for m in (matrix, replace(matrix, score=holes))
    )
    assert np.isfinite(holed).all()
    assert holed.mean() == pytest.approx(full.mean(), abs=0.08)


def test_parts_beside_training_do_not_leak(matrix: OutcomeMatrix, split: Split) -> None:
    """Turning around every outcome of the selection and test parts leaves the gate as it was."""
    other = matrix.score.copy()
    held = split.members("select", "test")
    other[held] = 1 - other[held]
    first = train_gate(matrix, split, GateSettings(backend="sklearn"))
    second = train_gate(replace(matrix, score=other), split, GateSettings(backend="sklearn"))
    assert np.array_equal(
        first.scores(matrix.vectors, matrix.category),
        second.scores(matrix.vectors, matrix.category),
    )


def test_scores_between_zero_and_one_are_learnt(matrix: OutcomeMatrix, split: Split) -> None:
    """Fractional scores count as so much of a right answer: halving them halves the estimates."""
    half = replace(matrix, score=matrix.score / 2)
    plain = GateSettings(backend="sklearn", calibration="none")
    whole, halved = (train_gate(m, split, plain) for m in (matrix, half))
    ratio = (
        halved.scores(matrix.vectors, matrix.category).mean()
        / whole.scores(matrix.vectors, matrix.category).mean()
    )
    assert ratio == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("calibration", ["platt", "temperature", "isotonic", "none"])
def test_stored_gate_is_the_same(
    matrix: OutcomeMatrix, split: Split, tmp_path: Path, calibration: str
) -> None:
    """A gate read back gives the same scores to the last bit, whatever its calibration."""
    gate = train_gate(matrix, split, settings_of("sklearn", calibration=calibration))
    gate.save(tmp_path / "gate")
    stored = load_gate(tmp_path / "gate")
    assert np.array_equal(
        gate.scores(matrix.vectors, matrix.category), stored.scores(matrix.vectors, matrix.category)
    )
    assert stored.record == gate.record


def test_stored_gate_needs_no_trainer(gate: Gate, tmp_path: Path) -> None:
    """Reading and using a stored gate loads neither torch nor scikit-learn nor scipy."""
    gate.save(tmp_path)
    size = len(gate.features.mean)
    code = (
        "import sys, numpy as np\n"
        "from moe2opt.selection.gate import load_gate\n"
        f"gate = load_gate({str(tmp_path)!r})\n"
        f"gate.scores(np.zeros((2, {size})), np.array(['tides', 'unheard of']))\n"
        "print([m for m in ('torch', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_tensors_are_safetensors(gate: Gate, tmp_path: Path) -> None:
    """The format's own library reads what we write, and we read what it writes."""
    library = pytest.importorskip("safetensors.numpy")
    gate.save(tmp_path)
    theirs = library.load_file(tmp_path / "gate.safetensors")
    ours = read_tensors(tmp_path / "gate.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(np.array_equal(theirs[name], ours[name]) for name in ours)
    library.save_file({"a": np.arange(6.0).reshape(2, 3)}, tmp_path / "b.safetensors")
    assert read_tensors(tmp_path / "b.safetensors")["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (2**40).to_bytes(8, "little") + b"{}",
        (9).to_bytes(8, "little") + b"[1, 2, 3]",
        (70).to_bytes(8, "little")
        + b'{"a":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}}'.ljust(70)
        + bytes(8),
        (70).to_bytes(8, "little")
        + b'{"a":{"dtype":"F64","shape":[1],"data_offsets":[8,16]}}'.ljust(70)
        + bytes(8),
        (70).to_bytes(8, "little")
        + b'{"a":{"dtype":"F64","shape":[-1],"data_offsets":[0,8]}}'.ljust(70)
        + bytes(8),
        (70).to_bytes(8, "little")
        + b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}'.ljust(70)
        + bytes(8),
        (2 * 10**5).to_bytes(8, "little") + b"[" * 10**5 + b"]" * 10**5,
        (16).to_bytes(8, "little") + b'{"a":{},"a":{}} ',
        (8).to_bytes(8, "little") + b'{"\xff":0}',
    ],
)
def test_broken_tensors_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that lies about its header, sizes or types is an input error, nothing else.

    So is one whose header is nested without end, names an array twice, or is no text.
    """
    path = tmp_path / "gate.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a safetensors file"):
        read_tensors(path)


def test_foreign_shapes_are_refused(gate: Gate, tmp_path: Path) -> None:
    """Tensors that do not fit the record are an input error that names the tensor."""
    gate.save(tmp_path)
    tensors = read_tensors(tmp_path / "gate.safetensors")
    tensors["network.bias"] = tensors["network.bias"][:-1]
    write_tensors(tmp_path / "gate.safetensors", tensors)
    with pytest.raises(InputError, match=r"network\.bias has shape"):
        load_gate(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": [["a"]]}, "categories: expected a list of names"),
        ({"llms": [1, 2]}, "llms: expected a list of names"),
        ({"head": "other"}, "head or record"),
        ({"record": None}, "head or record"),
    ],
)
def test_foreign_records_are_refused(
    gate: Gate, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """A record with entries of another kind is an input error that names the entry."""
    gate.save(tmp_path)
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(InputError, match=message):
        load_gate(tmp_path)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e300])
def test_numbers_that_overflow_are_refused(gate: Gate, tmp_path: Path, number: float) -> None:
    """Weights that are no numbers, or would overflow, are refused by the name of their array."""
    gate.save(tmp_path)
    tensors = read_tensors(tmp_path / "gate.safetensors")
    tensors["network.bias"] = tensors["network.bias"] * 0 + number
    write_tensors(tmp_path / "gate.safetensors", tensors)
    with pytest.raises(InputError, match=r"network\.bias holds a number beyond"):
        load_gate(tmp_path)


@pytest.mark.parametrize("kind", ["platt", "temperature", "isotonic"])
def test_calibration_mends_wrong_confidence(kind: str) -> None:
    """Scores three times too sure get a far smaller calibration error after the fit."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4000, 3))
    score = (rng.random(true.shape) < sigmoid(true)).astype(float)
    fitted = fit_calibrator(kind, 3 * true[:2000], score[:2000])  # type: ignore[arg-type]
    before = measure(sigmoid(3 * true[2000:]), score[2000:]).calibration_error
    after = measure(fitted(3 * true[2000:]), score[2000:]).calibration_error
    assert before > 0.1
    assert after < 0.04


def test_calibration_keeps_the_ranking_of_rare_llms() -> None:
    """An LLM with few validation outcomes is drawn to the common line, not to its own noise."""
    rng = np.random.default_rng(1)
    true = rng.normal(size=(2000, 2))
    score = (rng.random(true.shape) < sigmoid(true)).astype(float)
    score[5:, 1] = np.nan
    score[:5, 1] = 1.0
    fitted = fit_calibrator("platt", true, score)
    assert np.ptp(fitted.offset) < 0.2


def test_measures_by_hand() -> None:
    """Two prompts and two LLMs, one outcome missing: every measure as computed on paper."""
    found = measure(np.array([[0.9, 0.2], [0.4, 0.6]]), np.array([[1.0, 0.0], [1.0, np.nan]]))
    assert found.log_loss == pytest.approx(-(np.log(0.9) + np.log(0.8) + np.log(0.4)) / 3)
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.36) / 3)
    assert found.calibration_error == pytest.approx((0.1 + 0.2 + 0.6) / 3)
    assert found.routed_accuracy == 1.0
    assert found.best_single_accuracy == 1.0


@given(st.integers(0, 2**32 - 1))
def test_softmax_loss_is_least_at_the_targets(seed: int) -> None:
    """No logits have a smaller masked cross-entropy than the logarithms of the targets."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 2, size=(4, 5)).astype(float)
    score[rng.random(score.shape) < 0.3] = np.nan
    score[:, 0] = 1.0
    targets = softmax_targets(score)
    assert targets.sum(axis=1) == pytest.approx(1)
    best = np.log(np.where(targets > 0, targets, 1.0))
    other = rng.normal(size=score.shape)
    assert softmax_loss(best, score) <= softmax_loss(other, score) + 1e-12


def test_strongest_penalty_within_the_error_is_kept() -> None:
    """A strength wins over a stronger penalty only when it is better beyond the paired error."""
    rng = np.random.default_rng(0)
    base = rng.random(400)
    near, far = base + rng.normal(0.0, 0.5, 400) / 20, base + 0.2
    assert simplest(np.stack([base, near])) == 0
    assert simplest(np.stack([base, far])) == 1


def test_softmax_head_needs_a_calibration_to_probabilities() -> None:
    """A softmax head with a mere temperature is refused, since it would rate nobody's accuracy."""
    with pytest.raises(InputError, match="softmax head needs"):
        GateSettings(head="softmax", calibration="temperature")


def test_nothing_to_learn_from(matrix: OutcomeMatrix, split: Split) -> None:
    """Without vectors and without the category the gate says that it has no features."""
    bare = replace(matrix, vectors=np.zeros((len(matrix.prompts), 0)))
    with pytest.raises(InputError, match="nothing to learn from"):
        train_gate(bare, split, GateSettings(backend="sklearn", category=False))
    by_category = train_gate(bare, split, GateSettings(backend="sklearn"))
    assert by_category.record["measures"]["test"]["prompts"] == len(split.members("test"))


def test_lucky_llm_is_no_oracle(matrix: OutcomeMatrix, split: Split) -> None:
    """An LLM that was always right where it was run is rated high, yet below certainty."""
    score = matrix.score.copy()
    score[:, 0] = 1.0
    gate = train_gate(replace(matrix, score=score), split, GateSettings(backend="sklearn"))
    rated = gate.scores(matrix.vectors, matrix.category)[:, 0]
    assert (rated > 0.8).all()
    assert (rated < 1).all()


def test_other_vectors_are_refused(gate: Gate) -> None:
    """Vectors of another length than the training's are an input error with both lengths."""
    with pytest.raises(InputError, match=r"vectors of length 8"):
        gate.scores(np.zeros((1, 7)), np.array(["tides"]))


def test_hashed_text_tells_topics_apart() -> None:
    """Vectors hashed from words are nearer within a topic than between topics, and repeat."""
    texts = [f"{a} swim in the sea" for a in ("seals", "otters", "whales")]
    texts += [f"bake the {a} in the oven" for a in ("bread", "cake", "pie")]
    vectors = hashed_text(texts, dimensions=3)
    assert np.array_equal(vectors, hashed_text(texts, dimensions=3))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = unit @ unit.T
    assert likeness[:3, :3].min() > likeness[:3, 3:].max()


def test_record_names_data_split_and_settings(
    gate: Gate, matrix: OutcomeMatrix, split: Split
) -> None:
    """The record tells data, split, settings, versions and measures on all four parts."""
    assert gate.record["data_sha256"] == matrix.digest
    assert gate.record["split"] == split.record()
    assert gate.record["settings"]["backend"] == "sklearn"
    assert set(gate.record["measures"]) == set(PARTS)
    assert {"moe2opt", "numpy", "scipy"} <= set(gate.record["versions"])


def test_empty_data_have_no_loss() -> None:
    """A part without outcomes has loss 0 and targets of 0, so that nothing divides by zero."""
    empty = Data(np.zeros((2, 1)), np.full((2, 3), np.nan))
    assert softmax_loss(np.zeros((2, 3)), empty.score) == 0
    assert (empty.targets == 0).all()
