"""Train a small mixture of experts on bytes, with one thread and a fixed seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from moe2opt.executor.model import families
from moe2opt.executor.model.decoder import Decoder, Layer
from moe2opt.executor.model.experts import dispatch, feed_forward
from moe2opt.executor.model.families import ModelSpec
from moe2opt.executor.model.text import byte_tokens
from moe2opt.result import InputError
from moe2opt.writing import replacing, write_text
from tinymoe.text import Corpus

OnStep = Callable[[str], None]

#: Steps between lines of progress, and between checkpoints.
_NEWS = 50

_STATE = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a model is trained.

    Attributes
    ----------
    steps, batch, context
        Steps, sequences per step, bytes per sequence.
    learning_rate, weight_decay, warmup
        Of AdamW; steps of linear rise before the cosine fall to a tenth.
    balance
        Weight of the load-balancing loss.
    seed
        Seed of initial weights and of the order of the text.
    """

    steps: int = 800
    batch: int = 20
    context: int = 192
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    warmup: int = 60
    balance: float = 0.01
    seed: int = 0


def tiny_spec() -> ModelSpec:
    """Return the shape of the small model: 4 layers of 16 experts, two per token, 256 bytes."""
    return ModelSpec(
        family="mixtral",
        vocabulary=256,
        hidden=128,
        n_layers=4,
        heads=4,
        kv_heads=2,
        head_dim=32,
        experts=16,
        top_k=2,
        expert_width=128,
        moe_layers=tuple(range(4)),
        rope_theta=10_000.0,
        tied=True,
    )


def config_of(spec: ModelSpec, context: int, **more: Any) -> dict[str, Any]:
    """Return the ``config.json`` of a Mixtral-like model."""
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "vocab_size": spec.vocabulary,
        "hidden_size": spec.hidden,
        "intermediate_size": spec.expert_width,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "num_local_experts": spec.experts,
        "num_experts_per_tok": spec.top_k,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": spec.tied,
        "bos_token_id": None,
        "eos_token_id": None,
        **more,
    }


@dataclass(slots=True, eq=False)
class _Trained:
    """Experts that can be differentiated; keeps the balancing loss of the last pass.

    Attributes
    ----------
    decoder
        The rest of the model.
    weights
        By layer and expert.
    balance
        Load-balancing losses of the layers passed since the last `reset`.
    """

    decoder: Decoder
    weights: Mapping[tuple[int, int], Mapping[str, Tensor]]
    balance: list[Tensor] = field(default_factory=list)

    def apply(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs, see `Experts`."""
        self.balance.append(_balance(self.decoder, layer, hidden, chosen))
        return dispatch(
            hidden,
            chosen,
            weights,
            lambda expert, inputs: feed_forward(self.weights[layer, expert], inputs),
        )


def _balance(decoder: Decoder, layer: int, hidden: Tensor, chosen: Tensor) -> Tensor:
    """Return E times the sum over experts of (share of choices) x (mean probability)."""
    probabilities = decoder.router_probabilities(layer, hidden).mean(dim=0)
    experts = decoder.spec.experts
    shares = chosen.flatten().bincount(minlength=experts) / chosen.numel()
    return (shares * probabilities).sum() * experts


@contextmanager
def one_thread(seed: int) -> Iterator[None]:
    """Seed torch and keep it to one thread; what the caller had comes back afterwards."""
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.random.set_rng_state(state)


def initial(spec: ModelSpec) -> dict[str, Tensor]:
    """Return random weights by the names of the folder format, from torch's present seed."""
    shrink = 1.0 / math.sqrt(2 * spec.n_layers)
    found = {}
    for name, shape in families.expected_shapes(spec):
        if len(shape) == 1:
            found[name] = torch.ones(shape)
            continue
        last = any(key in name for key in ("o_proj", "w2.", "down_proj"))
        scale = 0.02 if "embed" in name else shape[1] ** -0.5 * (shrink if last else 1.0)
        found[name] = torch.randn(shape) * scale
    return found


def assembled(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> tuple[Decoder, dict[Any, Any]]:
    """Return the decoder and the experts whose weights are these very tensors."""
    top = {key: tensors[name] for key, name in families.top_names(spec).items()}
    layers = [
        Layer({key: tensors[name] for key, name in families.layer_names(spec, number).items()})
        for number in range(spec.n_layers)
    ]
    experts = {
        (layer, expert): {
            part: tensors[name] for part, name in families.expert_names(spec, layer, expert).items()
        }
        for layer in spec.moe_layers
        for expert in range(spec.experts)
    }
    return Decoder(spec, top["embedding"], top["norm"], top["head"], layers), experts


def train(
    spec: ModelSpec,
    corpus: Corpus,
    settings: TrainingSettings,
    on_step: OnStep = lambda _: None,
    checkpoint: Path | None = None,
) -> dict[str, Tensor]:
    """Train a model on the training parts of a corpus, all domains alike.

    Parameters
    ----------
    spec
        A model without biases, dense layers and shared experts.
    corpus
        Text by domain.
    settings
        How long and how fast.
    on_step
        Gets a line of progress now and then.
    checkpoint
        File that is written now and then and, if it is there, gone on with; removed at the end.

    Returns
    -------
    tensors
        fp32 weights by the names of the folder format.
    """
    with one_thread(settings.seed):
        tensors = {name: t.requires_grad_() for name, t in initial(spec).items()}
        decoder, weights = assembled(spec, tensors)
        experts = _Trained(decoder, weights)
        optimiser = torch.optim.AdamW(_groups(tensors, settings), betas=(0.9, 0.95))
        texts = [byte_tokens(corpus.text[domain, "train"]) for domain in corpus.domains]
        first = 0 if checkpoint is None else _resumed(checkpoint, corpus, tensors, optimiser)
        for step in range(first, settings.steps):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * _pace(step, settings)
            loss = _step(decoder, experts, _drawn(texts, settings, step), settings)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
            torch.nn.utils.clip_grad_norm_(list(tensors.values()), 1.0)
            optimiser.step()
            if step % _NEWS == 0 or step == settings.steps - 1:
                on_step(f"step {step}: loss {float(loss.detach()):.4f}")
            if checkpoint is not None and step % _NEWS == 0:
                _kept(checkpoint, corpus, step + 1, tensors, optimiser)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _kept(
    path: Path, corpus: Corpus, step: int, tensors: Mapping[str, Tensor], optimiser: Any
) -> None:
    """Write weights and moments, so that a killed training can go on."""
    held = {f"weight/{name}": t.detach() for name, t in tensors.items()}
    for name, tensor in tensors.items():
        # An expert that was never chosen has no state yet.
        held |= {f"{key}/{name}": value for key, value in optimiser.state[tensor].items()}
    about = {"step": str(step), "corpus": corpus.sha256}
    with replacing(path) as beside:
        save_file(held, str(beside), metadata=about)


def _resumed(path: Path, corpus: Corpus, tensors: Mapping[str, Tensor], optimiser: Any) -> int:
    """Read what `_kept` wrote, if it is there; return the step to go on with."""
    if not path.is_file():
        return 0
    with safe_open(str(path), framework="pt") as held, torch.no_grad():
        if held.metadata()["corpus"] != corpus.sha256:
            raise InputError(f"{path.name} was begun with other texts; remove it to start anew")
        step = int(held.metadata()["step"])
        for name, tensor in tensors.items():
            tensor.copy_(held.get_tensor(f"weight/{name}"))
            known = [key for key in _STATE if f"{key}/{name}" in held.keys()]  # noqa: SIM118
            optimiser.state[tensor] = {key: held.get_tensor(f"{key}/{name}") for key in known}
    return step


def _step(decoder: Decoder, experts: _Trained, batch: Tensor, settings: TrainingSettings) -> Tensor:
    """Return the loss of a ``(B, T + 1)`` batch."""
    experts.balance.clear()
    logits = decoder.forward(batch[:, :-1], experts)
    loss = cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1))
    return loss + settings.balance * torch.stack(experts.balance).mean()


def _groups(tensors: Mapping[str, Tensor], settings: TrainingSettings) -> list[dict[str, Any]]:
    """Return what decays (matrices) and what does not (norms, embedding)."""
    decaying = [t for name, t in tensors.items() if t.dim() == 2 and "embed" not in name]
    others = [t for name, t in tensors.items() if t.dim() == 1 or "embed" in name]
    return [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _pace(step: int, settings: TrainingSettings) -> float:
    """Return the share of the learning rate: a linear rise, then half a cosine."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    way = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.1 + 0.45 * (1.0 + math.cos(math.pi * way))


def _drawn(texts: Sequence[Tensor], settings: TrainingSettings, step: int) -> Tensor:
    """Return the ``(B, T + 1)`` windows of a step, the domains in turn."""
    draws = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    rows = []
    for k in range(settings.batch):
        text = texts[k % len(texts)]
        start = int(torch.randint(len(text) - settings.context, (1,), generator=draws))
        rows.append(text[start : start + settings.context + 1])
    return torch.stack(rows)


def save(
    folder: Path, spec: ModelSpec, tensors: Mapping[str, Tensor], note: Mapping[str, Any]
) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``TOKENIZER.md``.

    Experts are stored in fp16, everything else, which is small, in fp32.

    Parameters
    ----------
    folder
        Made if missing.
    spec, tensors
        The model.
    note
        Written into ``config.json`` under ``moe2opt``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(
        spec,
        4096,
        torch_dtype="float32",
        _name_or_path=folder.name,
        tokenizer="bytes",
        moe2opt=dict(note),
    )
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    write_text(folder / "TOKENIZER.md", _TOKENIZER)
    held = {
        name: t.to(torch.float16 if "experts." in name else torch.float32).contiguous()
        for name, t in sorted(tensors.items())
    }
    path = folder / "model.safetensors"
    with replacing(path) as beside:
        save_file(held, str(beside), metadata={"format": "pt"})
        # The library makes it readable by its owner only.
        beside.chmod(0o644)


def record(settings: TrainingSettings, corpus: Corpus) -> dict[str, Any]:
    """Return what must be known to train the same model again."""
    import sys

    return {
        "settings": asdict(settings),
        "corpus_sha256": corpus.sha256,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
    }


_TOKENIZER = """# Tokens

There is no tokenizer: token ids are the bytes of UTF-8 text, 0 to 255. `config.json` says so with
`"tokenizer": "bytes"`.
"""
