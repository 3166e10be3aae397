"""Training a very small model, and models that are only drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinymoe.text import Corpus

from moe2opt.result import InputError

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch", reason="trains a model: needs torch")


def small() -> Any:
    """Return the shape of a model that trains in a second."""
    from tinymoe.training import tiny_spec

    return replace(
        tiny_spec(),
        hidden=32,
        heads=2,
        kv_heads=1,
        head_dim=16,
        n_layers=2,
        moe_layers=(0, 1),
        experts=4,
        expert_width=32,
    )


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Two domains that are easy to tell apart."""
    return Corpus({("a", "train"): b"abcd" * 500, ("b", "train"): b"0123456789" * 200})


def test_training_learns_and_repeats(corpus: Corpus) -> None:
    """The loss falls below that of guessing, and a second run gives the same weights."""
    from tinymoe.training import TrainingSettings, train

    lines: list[str] = []
    settings = TrainingSettings(steps=60, batch=4, context=32, warmup=5, learning_rate=1e-2)
    first = train(small(), corpus, settings, lines.append)
    assert float(lines[-1].split()[-1]) < 2.0 < float(lines[0].split()[-1])
    second = train(small(), corpus, settings)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_training_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    """Training that was interrupted ends with the weights of one that was not."""
    from tinymoe.training import TrainingSettings, train

    settings = TrainingSettings(steps=60, batch=4, context=32, warmup=5)
    whole = train(small(), corpus, settings)
    path = tmp_path / "checkpoint"

    def stop(line: str) -> None:
        if line.startswith("step 59"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small(), corpus, settings, stop, path)
    assert path.is_file()
    lines: list[str] = []
    resumed = train(small(), corpus, settings, lines.append, path)
    assert not lines[0].startswith("step 0")
    assert not path.exists()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_checkpoint_is_the_model(corpus: Corpus, tmp_path: Path) -> None:
    """A saved model computes what the trained one did, up to the rounding of its experts."""
    from tinymoe.training import assembled, initial, save

    from moe2opt.executor.model.experts import ResidentExperts
    from moe2opt.executor.model.folder import open_folder

    torch.manual_seed(1)
    tensors = initial(small())
    save(tmp_path / "model", small(), tensors, {"a": 1})
    folder = open_folder(tmp_path / "model")
    decoder, weights = assembled(small(), tensors)
    tokens = torch.arange(40)
    expected = decoder.forward(tokens, ResidentExperts(weights))
    found = folder.decoder().forward(tokens, folder.resident())
    assert torch.allclose(found, expected, atol=2e-2 * float(expected.abs().max()))
    assert folder.config["moe2opt"] == {"a": 1}


def test_a_drawn_model_has_uneven_use(tmp_path: Path) -> None:
    """A synthetic model opens like any other, says so, and uses some experts much more."""
    from tinymoe.synthetic import Synthetic, write

    from moe2opt.executor.model.folder import open_folder
    from moe2opt.executor.model.routing import record_routing

    write(Synthetic(replace(small(), experts=16, top_k=1), zipf=1.0, seed=3), tmp_path / "drawn")
    folder = open_folder(tmp_path / "drawn")
    assert folder.config["moe2opt"]["synthetic"] is True
    tokens = torch.randint(0, 256, (1000,), generator=torch.Generator().manual_seed(0))
    shares = record_routing(folder, {"noise": tokens}, context=100).shares
    ranked = np.sort(shares, axis=1)[:, ::-1]
    assert (ranked[:, :4].sum(axis=1) > 0.45).all()


def test_switch_sizes_are_real_and_bounded() -> None:
    """An expert has the weights of Switch-Base's, and layers stop where the bytes do."""
    from tinymoe.synthetic import switch_base

    one = switch_base(128, 2 * 2**30)
    assert one.spec.expert_weights == 2 * 768 * 3072
    assert one.spec.n_layers == 1 and one.expert_bytes < 2 * 2**30
    assert switch_base(8).spec.n_layers == 12
    with pytest.raises(InputError, match="one layer of 256 experts"):
        switch_base(256, 2**30)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk ends with one message and without files; an existing folder is not touched."""
    from tinymoe import synthetic
    from tinymoe.synthetic import Synthetic, write

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "save_file", full)
    with pytest.raises(InputError, match="No space left"):
        write(Synthetic(small()), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match="exists already"):
        write(Synthetic(small()), tmp_path / "model")
