"""Settings of other runtimes fit, are the fastest there are, and are priced as they compute."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_models import model

import moe2opt as mo
from moe2opt.errors import InputError
from moe2opt.llamacpp import LlamaModel, context_bytes
from moe2opt.place import PlaceConfig
from moe2opt.place.door import QUESTION
from moe2opt.place.question import asked
from moe2opt.place.runtimes import accelerate
from moe2opt.place.runtimes.base import WORKSPACE, Setting
from moe2opt.place.runtimes.question import RUNTIMES, RuntimeInstance, fastest
from moe2opt.place.runtimes.stored import read_stored

GIB = 2**30
CONFIGS = json.loads((Path(__file__).parents[1] / "llamacpp" / "configs.json").read_text())
CARD, SMALL = {"gib": 24, "gb_per_s": 936}, {"gib": 12, "gb_per_s": 360}


def instance(runtime: str, own: str | LlamaModel, *gpus: dict[str, Any], **sections: Any) -> Any:
    """Return the question about a model on some cards."""
    read = model(own) if isinstance(own, str) else own
    content = {"problem": "place", "model": "m", "runtime": runtime, "gpus": list(gpus)}
    return asked(PlaceConfig.model_validate(content | {"ram": {"gib": 256}} | sections), read)


def chosen(question: RuntimeInstance) -> Setting:
    """Return the setting of a proven solution."""
    result = mo.solve(question)
    assert result.status is mo.Status.OPTIMAL
    verdict = mo.certify(question, result)
    assert (verdict.kind, verdict.failures) == ("checked", ())
    assert question.check(result.plan) == []
    assert question.evaluate(result.plan) == pytest.approx(result.objective, rel=1e-9)
    assert type(result.plan).from_dict(result.plan.to_dict()) == result.plan
    assert result.x is not None
    return question.settings[int(result.x[0])]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("gpus", [(CARD,), (CARD, SMALL), (CARD, CARD)], ids=len)
def test_the_fastest_setting_that_fits(runtime: str, gpus: tuple[dict[str, Any], ...]) -> None:
    """A proven plan keeps all bytes somewhere within the margins, and no setting is faster."""
    question = instance(runtime, "glm45-air", *gpus)
    found, case = chosen(question), question.case
    kept = found.ram + sum(weights for weights, _, _ in found.held)
    assert kept >= case.model.bytes * (1 - 1e-9)
    for d, (weights, context, compute) in enumerate(found.held):
        assert weights + context + compute <= case.usable_bytes(d)
        assert not weights or compute >= WORKSPACE
    inside = [s.seconds for s in question.settings if _fits(question, s)]
    assert found.seconds == min(inside)
    assert found.fast <= found.seconds <= found.slow


def _fits(question: RuntimeInstance, setting: Setting) -> bool:
    return not any(
        used > limit for used, limit in zip(question.uses(setting), question.limits(), strict=True)
    )


def test_vllm_reads_experts_over_the_bus() -> None:
    """Its seconds are those of the cards, and those of the used experts' bytes at the bus' rate."""
    question = instance("vllm", "qwen3-30b-a3b", SMALL, pcie_gb_per_s=12)
    nothing, found = question.settings[0], chosen(question)
    moved = found.experts_in_ram
    assert found.options["offload-backend"] == "uva"
    assert list(moved) == list(range(len(moved)))  # the first layers, as vLLM goes
    layers = question.case.model.layers
    used = sum(layers[k].expert_bytes for k in moved) * 8 / 128 / 12e9
    cards = question.case.machine.devices[0]
    there = sum(question.case.experts_s(layers[k], cards) for k in moved)
    assert found.seconds == pytest.approx(nothing.seconds - there + used, rel=1e-9)
    limit, size = found.options["cpu-offload-gb"] * GIB, layers[0].expert_bytes
    assert (len(moved) - 1 / 3) * size < limit < len(moved) * size


def test_vllm_copies_groups_whole() -> None:
    """A group is copied with all experts, whichever are used, while other layers compute."""
    question = instance("vllm", "qwen3-30b-a3b", SMALL, pcie_gb_per_s=12)
    whole = [s for s in question.settings if s.options.get("offload-backend") == "prefetch"]
    every = next(s for s in whole if len(s.experts_in_ram) == len(question.case.model.layers))
    size = sum(layer.expert_bytes for layer in question.case.model.layers)
    assert every.seconds == pytest.approx(size / 12e9)


def test_sglang_copies_whole_layers() -> None:
    """Its seconds are those of the card, and those of all bytes of the first layers."""
    question = instance("sglang", "qwen3-30b-a3b", SMALL, pcie_gb_per_s=12)
    found = chosen(question)
    moved = sum(question.case.model.layers[k].bytes for k in found.layers_in_ram)
    assert found.seconds == pytest.approx(question.settings[0].seconds + moved / 12e9, rel=1e-9)


def test_ktransformers_computes_on_both() -> None:
    """The processor reads experts beside the card: more there help until it takes as long."""
    question = instance("ktransformers", "qwen3-30b-a3b", SMALL)
    case, settings = question.case, question.settings
    card = case.machine.devices[0]
    first = case.model.output_bytes * card.byte_s + sum(
        case.home_s(layer, card) + case.experts_s(layer, None) for layer in case.model.layers
    )
    assert settings[0].seconds == pytest.approx(first, rel=1e-9)
    seconds = [s.seconds for s in settings[:-1]]
    best = seconds.index(min(seconds))
    assert seconds[: best + 1] == sorted(seconds[: best + 1], reverse=True)
    assert seconds[best:] == sorted(seconds[best:])
    assert "--kt-num-gpu-experts" in mo.solve(question).plan.command


def test_accelerate_names_every_module_once() -> None:
    """The map puts experts of the planned layers in RAM, and nothing lies within another entry."""
    question = instance("accelerate", "qwen3-30b-a3b", CARD, SMALL, context={"tokens": 4096})
    found = max(
        (s for s in question.settings if _fits(question, s) and s.ram), key=lambda s: len(s.homes)
    )
    mapping = accelerate.device_map(question.case, found)
    in_ram = {k for k, moved in found.experts_in_ram.items() if moved}
    named = {int(name.split(".")[2]) for name, at in mapping.items() if at == "cpu"}
    assert named == in_ram
    inner = [(a, b) for a in mapping for b in mapping if a != b and b.startswith(f"{a}.")]
    assert not inner
    assert {at for at in mapping.values() if at != "cpu"} == set(found.devices)


def test_cards_share_evenly_or_not_at_all() -> None:
    """A count of cards that does not divide the heads is never shared by."""
    odd = dataclasses.replace(model("qwen3-30b-a3b"), heads=3)
    question = instance("vllm", odd, CARD, CARD)
    assert {s.options["tensor-parallel-size"] for s in question.settings} == {1}
    even = instance("vllm", "qwen3-30b-a3b", CARD, CARD)
    both = next(s for s in even.settings if s.options["tensor-parallel-size"] == 2)
    assert both.held[0] == both.held[1]
    alone = even.settings[0]
    line = even.case.line(512)
    whole = sum(context_bytes(even.case.model, o, line) for o in even.case.model.layers)
    assert (alone.held[0][1], both.held[0][1]) == pytest.approx((whole, whole / 2))


@pytest.mark.parametrize(
    ("runtime", "sections", "fault"),
    [
        ("vllm", {"gpus": []}, "vllm computes on cards"),
        ("sglang", {"context": {"type_k": "q8_0"}}, "context.type_k: sglang has no context in q8"),
        ("accelerate", {"rpc": ["a:1"]}, "rpc: accelerate has no such servers"),
    ],
)
def test_what_a_runtime_cannot_express_is_refused(
    runtime: str, sections: dict[str, Any], fault: str
) -> None:
    """The refusal names key and runtime."""
    with pytest.raises(InputError, match=fault):
        mo.solve(instance(runtime, "qwen3-30b-a3b", **{"gpus": [CARD]} | sections))


def test_ktransformers_wants_experts() -> None:
    """A dense model is refused by name."""
    with pytest.raises(InputError, match="ktransformers places experts"):
        mo.solve(instance("ktransformers", "llama31-8b", CARD))


def test_a_dense_model_moves_whole_layers() -> None:
    """The first layers of a dense model are in RAM whole, and their bytes are read every step."""
    question = instance("vllm", "llama33-70b", CARD)
    found = chosen(question)
    assert found.layers_in_ram and not found.experts_in_ram
    assert found.seconds >= found.ram * question.case.machine.copy_byte_s


def test_a_plan_is_exported_to_another_runtime() -> None:
    """An export for another runtime is found anew with the configuration, and refused without."""
    ours = instance("llama.cpp", "qwen3-30b-a3b", CARD)
    plan = mo.solve(ours).plan
    with pytest.raises(InputError, match="--config"):
        QUESTION.exporters["vllm"](plan, None)
    told = QUESTION.exporters["vllm"](plan, ours)
    assert shlex.split(told.text)[:2] == ["vllm", "serve"]
    assert told.text.strip() == mo.solve(instance("vllm", "qwen3-30b-a3b", CARD)).plan.command
    other = fastest(instance("accelerate", "qwen3-30b-a3b", CARD).case)
    assert json.loads(QUESTION.exporters["accelerate"](other, None).text)["lm_head"] == 0
    with pytest.raises(InputError, match="--to accelerate"):
        QUESTION.exporters["llama.cpp"](other, None)


def test_nothing_fits_is_told_with_what_lacks() -> None:
    """Where no setting fits, the export says by how much."""
    ours = instance("vllm", "qwen3-30b-a3b", {"gib": 2, "gb_per_s": 100})
    with pytest.raises(InputError, match=r"no setting of vllm fits: the closest lacks [\d,]+ MiB"):
        fastest(ours.case)
    assert mo.solve(ours).status is mo.Status.INFEASIBLE


def _folder(tmp_path: Path, **changes: Any) -> Path:
    config = CONFIGS["qwen3-30b-a3b"]["config"] | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_a_packed_folder_counts_as_stored(tmp_path: Path) -> None:
    """AWQ of four bits in groups of 128 takes 4.16 of 16 bits, and says that to be checked."""
    plain = read_stored(_folder(tmp_path), "vllm")
    packed = {"quant_method": "awq", "bits": 4, "group_size": 128}
    found = read_stored(_folder(tmp_path, quantization_config=packed), "vllm")
    assert found.layers[0].expert_bytes / plain.layers[0].expert_bytes == pytest.approx(
        (4 + 20 / 128) / 16, rel=1e-6
    )
    assert found.notes[0].startswith("CHECK THE SIZES")
    with pytest.raises(InputError, match="does not tell its bits"):
        read_stored(_folder(tmp_path, quantization_config={"quant_method": "odd"}), "vllm")
    with pytest.raises(InputError, match="quant: 'Q4_K_M' is a file type"):
        read_stored(tmp_path, "vllm", "Q4_K_M")


def test_files_are_measured(tmp_path: Path) -> None:
    """Where the folder has its weights, experts of each layer have the bytes of their tensors."""
    numpy = pytest.importorskip("safetensors.numpy")
    folder = _folder(tmp_path, num_hidden_layers=2)
    tensors = {
        "model.embed_tokens.weight": np.zeros((64, 8), np.float16),
        "model.layers.0.self_attn.q_proj.weight": np.zeros((8, 8), np.float16),
        "model.layers.0.mlp.experts.0.up_proj.qweight": np.zeros((16, 8), np.int32),
        "model.layers.1.mlp.experts.0.up_proj.qweight": np.zeros((32, 8), np.int32),
    }
    numpy.save_file(tensors, folder / "model.safetensors")
    found = read_stored(folder, "vllm")
    assert [layer.expert_bytes for layer in found.layers] == pytest.approx([512, 1024], abs=2)
    assert sum(layer.other_bytes for layer in found.layers) == pytest.approx(128, abs=2)
    assert found.input_bytes == 1024


def test_a_gguf_file_is_unpacked_by_transformers(tmp_path: Path) -> None:
    """Weights of a GGUF file take 16 bits there, and its own bytes elsewhere."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for key, value in (("block_count", 1), ("embedding_length", 32), ("head_count", 1)):
        getattr(writer, f"add_{key}")(value)
    writer.add_tensor("token_embd.weight", np.zeros((32, 32), np.float16))
    raw = np.zeros((64, 34), np.uint8)  # 64 rows of 32 weights in Q8_0
    writer.add_tensor("blk.0.ffn_up.weight", raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_stored(tmp_path / "m.gguf", "accelerate").layers[0].other_bytes == 2 * 64 * 32
    assert read_stored(tmp_path / "m.gguf", "vllm").layers[0].other_bytes == 64 * 34
