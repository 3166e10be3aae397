"""Predictions: physical sense, intervals, fall-backs, and errors in words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe2opt.profiles import Profiles, predict, predict_offload, read_profiles
from moe2opt.profiles.fitting.points import repository
from moe2opt.profiles.formats import engine_class, find_format, weight_class
from moe2opt.profiles.predicting.answer import answers
from moe2opt.profiles.predicting.request import load_of
from moe2opt.result import InputError

ORIN, RTX, NANO = "Jetson AGX Orin 64GB", "RTX 4090", "Jetson Orin Nano Super 8GB"
DEVICES = st.sampled_from([ORIN, RTX, NANO, "RTX 3090", "RTX 3060", "RTX 5090"])
FORMATS = st.sampled_from(["F16", "Q8_0", "Q4_K_M", "INT4", "Q2_0", "NF4"])
SIZES = st.floats(2e8, 4e10)


@given(device=DEVICES, precision=FORMATS, size=SIZES, more=st.floats(1.0, 4.0))
@settings(max_examples=60)
def test_larger_models_are_not_faster(
    device: str, precision: str, size: float, more: float
) -> None:
    """More bytes of the same format never decode or prefill faster."""
    for phase in ("decode", "prefill"):
        small, large = (
            predict(device, size * k, precision, phase, quantity="s_per_token")  # type: ignore[arg-type]
            for k in (1.0, more)
        )
        assert small.value <= large.value * (1 + 1e-12)


@given(device=DEVICES, precision=FORMATS, size=SIZES, before=st.floats(0, 1e5))
@settings(max_examples=40)
def test_a_longer_context_is_not_faster(
    device: str, precision: str, size: float, before: float
) -> None:
    """Cached tokens cost time."""
    short = predict(device, size, precision, quantity="s_per_token")
    long = predict(device, size, precision, quantity="s_per_token", context_tokens=before)
    assert short.value <= long.value


@given(device=st.sampled_from([RTX, "RTX 3090"]), size=SIZES, a=st.floats(190, 500),
       b=st.floats(190, 500))  # fmt: skip
@settings(max_examples=40)
def test_a_lower_cap_is_slower_and_draws_less(device: str, size: float, a: float, b: float) -> None:
    """Under a lower power cap a token takes at least as long, and the power is at most the cap."""
    low, high = sorted((a, b))
    times = [
        predict(device, size, quantity="s_per_token", power_cap_w=cap).value for cap in (low, high)
    ]
    assert times[0] >= times[1] * (1 - 1e-12)
    drawn = predict(device, size, quantity="power_w", power_cap_w=low)
    assert drawn.value <= low * (1 + 1e-9)


@given(device=DEVICES, precision=FORMATS, size=SIZES, a=st.floats(0, 0.99), b=st.floats(0, 0.99))
@settings(max_examples=40)
def test_intervals_hold_the_value_and_grow(
    device: str, precision: str, size: float, a: float, b: float
) -> None:
    """The interval holds the value and widens with its level."""
    low, high = sorted((a, b))
    narrow, wide = (predict(device, size, precision, level=level) for level in (low, high))
    assert wide.lower <= narrow.lower <= narrow.value <= narrow.upper <= wide.upper


def test_units_agree() -> None:
    """Tokens per second, seconds, joules and watts of one request fit together."""
    figures = {
        quantity: predict(RTX, 5e9, quantity=quantity).value  # type: ignore[arg-type]
        for quantity in ("tokens_per_s", "s_per_token", "j_per_token", "power_w")
    }
    assert figures["tokens_per_s"] * figures["s_per_token"] == pytest.approx(1)
    assert figures["power_w"] * figures["s_per_token"] == pytest.approx(figures["j_per_token"])


def test_measured_runs_are_met(profiles: Profiles) -> None:
    """The runs of three LLMs on the AGX Orin are reproduced within 5 % by size and format."""
    for run in profiles.runs:
        if "edgereasoning" in run["source"] and "decode" in (run["fits"] or ""):
            guess = predict(
                run["device"],
                params_b=run["params_b"],
                precision=run["quant"],
                engine=run["engine"],
                prompt_tokens=run["prompt_tokens"],
                output_tokens=run["output_tokens"],
            )
            assert guess.value == pytest.approx(run["decode_tokens_per_s"], rel=0.05)
            assert not guess.extrapolated


def test_power_modes_are_ordered() -> None:
    """On the Orin Nano a mode of more watts is faster, up to 25 W and MAXN, and draws more."""
    modes = ("7W", "15W", "25W", "MAXN")
    rates = [predict(NANO, 0.8e9, power_mode=mode).value for mode in modes]
    assert rates == sorted(rates)
    watts = [predict(NANO, 0.8e9, quantity="power_w", power_mode=mode).value for mode in modes]
    assert watts == sorted(watts)
    assert predict(NANO, 0.8e9).value == pytest.approx(rates[2])
    assert predict(NANO, 0.8e9, power_mode="15 W").value == rates[1]
    assert predict(NANO, 0.8e9, power_mode="MAXN_SUPER").value == rates[3]


def test_a_mixture_reads_its_active_weights() -> None:
    """A mixture of experts decodes faster than a dense model of its size, slower than its part."""
    part = 3.0 / 30.53
    mixture = predict(RTX, 18.55e9, active_params_b=3.0, params_b=30.53).value
    assert predict(RTX, 18.55e9).value < mixture < predict(RTX, 18.55e9 * part).value
    assert mixture == pytest.approx(261.5, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"device": RTX, "precision": "F16"}, "no run with 16-bit weights"),
        ({"device": "RTX 4060"}, "no run of RTX 4060 calibrates decode"),
        ({"device": RTX, "weights_bytes": 1e12}, "weights of 1e+03 GB outside the measured"),
        ({"device": ORIN, "power_mode": "30W"}, "no run in power mode '30W' (known: none)"),
        ({"device": RTX, "precision": "Q4_K_L"}, "bits per weight of 'Q4_K_L' guessed"),
        ({"device": "RTX 3090", "power_cap_w": 100}, "cap outside the swept 190 to 390 W"),
        ({"device": "RTX 5090", "power_cap_w": 100, "precision": "NF4"},
         "no power caps were swept on RTX 5090"),
        ({"device": "RTX 4090", "quantity": "j_per_token", "phase": "prefill"},
         "no run of RTX 4090 calibrates prefill energy"),
    ],
)  # fmt: skip
def test_extrapolations_say_why(arguments: dict[str, Any], reason: str) -> None:
    """A prediction beyond the runs is flagged, wide, and says what is missing."""
    found = predict(**({"weights_bytes": 5e9} | arguments))
    assert found.extrapolated
    assert any(reason in words for words in found.reasons), found.reasons
    assert found.upper > found.value > found.lower
    assert "extrapolated" in str(found)


def test_cards_without_energy_runs_lean_on_other_cards() -> None:
    """Joules of an unmeasured card are the middle of those with its power scope, and say so."""
    found = predict("RTX 3060", 5e9, quantity="power_w")
    assert found.unit == "W (GPU board)"
    assert found.extrapolated
    assert "energy of other devices with the power scope GPU board" in found.reasons
    twin = predict("RTX 4090D", 5e9, quantity="j_per_token").value
    assert twin == pytest.approx(predict(RTX, 5e9, quantity="j_per_token").value, rel=0.3)


def test_an_extrapolation_is_wider() -> None:
    """Outside the runs the interval is at least that of a left-out device."""
    inside = predict(RTX, 5e9, level=0.8)
    outside = predict(RTX, 5e9, precision="F16", level=0.8)
    assert outside.upper / outside.value >= inside.upper / inside.value


def test_predictions_show_their_errors() -> None:
    """Every prediction carries the hold-out errors behind it."""
    assert "left-out model" in predict(RTX, 5e9).error
    assert "left-out source" in str(predict(RTX, 5e9))
    assert "never measured on RTX 4060" in predict("RTX 4060", 5e9).error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "RTX 4900"}, "device: 'RTX 4900' is not in devices.csv"),
        ({"precision": "Q4KM"}, "precision: 'Q4KM' is not in formats.csv .*'Q4_K_M'"),
        ({"precision": "weird"}, "give bits_per_weight"),
        ({"weights_bytes": -1}, "weights_bytes: expected a positive number, not -1"),
        ({"weights_bytes": math.nan}, "weights_bytes: expected a positive number"),
        ({"weights_bytes": math.inf}, "weights_bytes: expected a finite number"),
        ({"weights_bytes": None}, "weights_bytes: missing; give it or params_b"),
        ({"weights_bytes": "5 GB"}, "weights_bytes: expected a positive number, not '5 GB'"),
        ({"active_bytes": 6e9}, "active_bytes: more than weights_bytes"),
        ({"phase": "train"}, "phase: 'train' is not one of decode, prefill"),
        ({"quantity": "watts"}, "quantity: 'watts' is not one of"),
        ({"level": 1.0}, "level: expected a probability below 1"),
        ({"power_cap_w": 0}, "power_cap_w: expected a positive number"),
        ({"output_tokens": 0}, "output_tokens: expected a positive number"),
        ({"context_tokens": -1e6}, "context_tokens: expected a finite number of at least 0"),
        ({"device": "Orin NX", "quantity": "power_w"},
         "device 'Jetson Orin NX 16GB': neither energy runs nor power_limit_w"),
    ],
)  # fmt: skip
def test_bad_requests_are_named(arguments: dict[str, Any], message: str) -> None:
    """A request that makes no sense is refused by the name of its argument."""
    with pytest.raises(InputError, match=message):
        predict(**({"device": RTX, "weights_bytes": 5e9} | arguments))


@pytest.mark.parametrize(
    ("name", "bits", "engine"),
    [
        ("Q4_K_M", 4.8944, "llama.cpp"),
        ("q4_k_m", 4.8944, "llama.cpp"),
        ("IQ3_XXS", 3.2548, "llama.cpp"),
        ("Q5_K_L", 5.6, "llama.cpp"),
        ("BF16", 16, "other"),
        ("int8", 8, "other"),
        ("INT6", 6.25, "other"),
        ("3-bit", 3.25, "other"),
        ("NF4", 4.5, "eager"),
        ("AWQ", 4.25, "other"),
    ],
)
def test_bits_follow_from_names(profiles: Profiles, name: str, bits: float, engine: str) -> None:
    """A format's bits come from the table, else from its name, and so does its usual engine."""
    form = find_format(name, profiles.formats)
    assert form.bits_per_weight == pytest.approx(bits)
    assert form.engine == engine
    assert find_format(name, profiles.formats, 7.5).bits_per_weight == 7.5


def test_classes_of_weights_and_engines() -> None:
    """Bits fall into five classes; names of engines into the ones that are told apart."""
    assert [weight_class(b) for b in (16, 8.5, 4.9, 2.0, 1.1)] == [
        "16-bit", "8-bit", "4-bit", "2-bit", "1-bit",
    ]  # fmt: skip
    names = ("llama.cpp CUDA", "ExLlamaV2", "vLLM 0.20", "Ollama", "HF transformers", "mine", None)
    assert [engine_class(name) for name in names] == [
        "llama.cpp", "ExLlama", "vLLM", "llama.cpp", "eager", "other", None,
    ]  # fmt: skip


def test_files_of_one_repository_are_one_source() -> None:
    """Leaving a source out means leaving out all of a repository's files and threads."""
    texts = (
        "github:a/b:docs/x.py",
        "https://github.com/a/b/issues/3",
        "https://github.com/a/b",
        "hf:a/b",
        "https://site.org/page/1",
    )
    assert [repository(t) for t in texts] == ["github:a/b"] * 3 + ["hf:a/b", "site.org"]


def test_answers_add_up(profiles: Profiles) -> None:
    """An answer takes its prompt plus its tokens; a quantile above one half takes longer."""
    form = find_format("Q4_K_M", profiles.formats)
    load = load_of(profiles.device(RTX), form, 5e9)
    one = answers(profiles.fit, load, [100, 200], [10, 20])
    assert one.seconds() == pytest.approx(one.prefill_s + one.decode_s)
    assert one.seconds(0.5) == pytest.approx(one.seconds())
    assert (one.seconds(0.9) > one.seconds(0.6)).all()
    assert (one.joules(0.9) > one.joules()).all()
    assert (one.joules(0.99) <= 450 * one.seconds(0.99) * (1 + 1e-12)).all()
    assert predict(RTX, 5e9, quantity="power_w", level=0.99).upper <= 450
    per_token = predict(RTX, 5e9, quantity="s_per_token", prompt_tokens=100, output_tokens=10).value
    assert one.decode_s[0] == pytest.approx(10 * per_token)


def test_stated_rates_are_exact(checkout: Any) -> None:
    """A device that states its rates is predicted by them, without an error."""
    tiny = read_profiles(checkout / "problems" / "selection" / "tiny_profiles")
    rate = predict("slow-box", 1e9, "int8", profiles=tiny)
    assert (rate.value, rate.lower, rate.upper) == pytest.approx((10, 10, 10))
    assert not rate.extrapolated
    power = predict("fast-box", 1e9, "int8", quantity="power_w", profiles=tiny)
    assert power.value == pytest.approx(80)
    assert power.unit == "W (synthetic)"


# ------------------------------------------------------------------ offload


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_experts_on_the_gpu_are_not_slower(a: float, b: float) -> None:
    """In every published series, a larger share on the GPU takes at most as long."""
    low, high = sorted((a, b))
    for series in ("random", "frequency", "dynamic", "Ryzen"):
        slow, fast = (predict_offload(share, series=series).value for share in (low, high))
        assert fast <= slow * (1 + 1e-9)


def test_offload_is_built_from_a_bandwidth() -> None:
    """Without a series, missed bytes over the tier's bandwidth add up; overlap hides them."""
    common: dict[str, Any] = {
        "device": RTX, "weights_bytes": 18.55e9, "active_params_b": 3.0,
        "expert_bytes_per_token": 1e9,
    }  # fmt: skip
    none = predict_offload(1.0, **common)
    half = predict_offload(0.5, tier_gb_per_s=25, **common)
    assert half.value == pytest.approx(0.5e9 / 25e9, abs=none.value)
    assert half.extrapolated
    hidden = predict_offload(0.5, tier_gb_per_s=25, overlap=1.0, **common)
    assert hidden.value == pytest.approx(0.02, rel=1e-6)
    assert hidden.value < half.value
    wide = predict_offload(0.5, **common)
    assert wide.upper / wide.lower > half.upper / half.lower


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expert_share_gpu": 2, "series": "random"}, "expert_share_gpu: 2 is outside 0..1"),
        ({"series": "nothing"}, "series: 'nothing' is not part of the known series"),
        ({"series": "Qwen3"}, "series: 'Qwen3' names several of"),
        ({}, "series: give it, or device, weights_bytes and active_params_b"),
        ({"series": "random", "overlap": 3}, "overlap: 3 is outside 0..1"),
        ({"series": "random", "layers_in_tier": -9}, "layers_in_tier: expected a finite number of"),
        ({"series": "random", "latency_s": math.nan}, "latency_s: expected a finite number of at"),
        ({"series": "random", "expert_bytes_per_token": -1e9}, "expert_bytes_per_token: expected"),
    ],
)
def test_bad_offload_requests_are_named(arguments: dict[str, Any], message: str) -> None:
    """A request without a series or a model, or beyond its range, is refused."""
    with pytest.raises(InputError, match=message):
        predict_offload(**({"expert_share_gpu": 0.5} | arguments))


def test_predictions_are_plain_numbers() -> None:
    """Values are Python floats, so that they can be printed and stored."""
    found = predict(RTX, 5e9)
    assert all(type(v) is float for v in (found.value, found.lower, found.upper))
    assert not isinstance(found.value, np.floating)


def test_a_cap_above_the_usual_limit_lets_a_card_draw_more() -> None:
    """Between 470 and 550 W an RTX 4090 draws what a swept model of that size draws there."""
    for cap_w in (470, 500, 550):
        drawn = predict(
            RTX, precision="UD-Q3_K_XL", params_b=27, quantity="power_w", power_cap_w=cap_w
        )
        assert drawn.lower < 393.15 < drawn.upper
        assert drawn.upper / drawn.lower < 1.1


def test_pages_that_calibrate_nothing_are_met(profiles: Profiles) -> None:
    """Decoding of LLaMA 3 on two cards, from a page that no fit of them saw, is met within 10 %."""
    errors = []
    for run in profiles.runs:
        if "XiongjieDai" in run["source"] and run["device"] in ("RTX 4090", "RTX 3090"):
            if run["decode_tokens_per_s"] is None:
                continue
            assert "decode" not in (run["fits"] or "")
            found = predict(
                run["device"], run["weights_gb"] * 1e9, run["quant"], params_b=run["params_b"],
                prompt_tokens=0, output_tokens=run["output_tokens"],
            )  # fmt: skip
            errors.append(abs(found.value / run["decode_tokens_per_s"] - 1))
            assert found.lower < run["decode_tokens_per_s"] < found.upper
    assert len(errors) == 16
    assert np.median(errors) < 0.1


def test_a_name_of_two_boards_says_which() -> None:
    """A name that fits several devices is a marked guess, and the full name is none."""
    guess = predict("Orin Nano", 2e9)
    assert any("not for Jetson Orin Nano 8GB (68 GB/s)" in reason for reason in guess.reasons)
    assert not any("taken for" in reason for reason in predict("Orin Nano Super", 2e9).reasons)
    alone = predict("Jetson Orin Nano 8GB", 2e9)
    assert alone.upper / alone.lower > 2  # one run says little


def test_offload_counts_context_and_the_kind_of_ram() -> None:
    """A longer conversation and slower RAM take longer; the interval is wider than a factor of 2.

    Qwen3.6-35B-A3B Q4_K_M with the experts of 34 of 40 layers in RAM, RTX 3060: 26.51 tokens/s
    (public log); with 22 of 40, RX 9070 XT, DDR5-5600, 48,531 tokens so far: 30.58
    (https://github.com/ggml-org/llama.cpp/issues/25859).
    """
    about: dict[str, Any] = {
        "weights_bytes": 22.1e9, "precision": "Q4_K_M", "active_params_b": 3.0,
        "expert_bytes_per_token": 0.64e9,
    }  # fmt: skip
    card = {"device": "RTX 3060", "layers_in_tier": 34}
    short = predict_offload(6 / 40, **card, **about)
    long = predict_offload(6 / 40, context_tokens=100_000, **card, **about)
    slow = predict_offload(6 / 40, ram="ddr4-2400", **card, **about)
    assert short.value < long.value and short.value < slow.value
    assert short.upper / short.lower > 3
    assert short.lower < 1 / 26.51 < short.upper
    deep = predict_offload(
        18 / 40, device="RX 9070 XT", ram="ddr5-5600", layers_in_tier=22, context_tokens=48_531,
        **about,
    )  # fmt: skip
    assert deep.lower < 1 / 30.58 < deep.upper


def test_offload_intervals_widen_with_their_level() -> None:
    """An interval of 99 % is wider than one of 90 %, and that than one of 50 %."""

    def width(level: float) -> float:
        found = predict_offload(
            0.0, device="RTX 3090", weights_bytes=60e9, active_params_b=5.1, level=level
        )
        return found.upper / found.lower

    assert width(0.5) < width(0.9) < width(0.99) < width(0.999)


def test_cards_of_one_bandwidth_read_prompts_by_their_arithmetic() -> None:
    """Of two cards of 504 GB/s that nobody ran, the one with more cores reads prompts faster."""
    slow, fast = (
        predict(name, 4.92e9, phase="prefill").value for name in ("RTX 4070", "RTX 4070 SUPER")
    )
    assert 1.1 < fast / slow < 7168 / 5888


def test_vulkan_attains_less_of_the_matrix_units() -> None:
    """Prompts through Vulkan are slower, answers are not, and Radeon cards use it unless told."""
    for phase, ratio in (("prefill", 1.5), ("decode", 1.0)):
        plain, vulkan = (
            predict(RTX, 4.92e9, "Q4_K_M", phase, engine=engine, quantity="s_per_token").value  # type: ignore[arg-type]
            for engine in ("llama.cpp CUDA", "llama.cpp Vulkan")
        )
        assert vulkan >= ratio * plain
        assert phase == "prefill" or vulkan == plain
    usual, told = (
        predict("RX 9070 XT", 4.92e9, "Q4_K_M", "prefill", engine=engine).value
        for engine in (None, "llama.cpp Vulkan")
    )
    assert usual == told
    assert usual == pytest.approx(4802, rel=0.1)


def test_host_bound_engines_wait_for_layers() -> None:
    """Twice the layers take twice as long there, and as long as ever in a compiled engine."""
    for engine, ratio in (("HF transformers", 2.0), ("vLLM", 1.0)):
        few, many = (
            predict(
                RTX, params_b=1.5, precision="NF4", layers=layers, engine=engine,
                quantity="s_per_token",
            ).value
            for layers in (28, 56)
        )  # fmt: skip
        assert many == pytest.approx(ratio * few)
    published = predict(RTX, params_b=7, precision="NF4", layers=28, prompt_tokens=2048)
    assert published.value == pytest.approx(43.1, rel=0.1)
    new = predict(RTX, params_b=7, precision="2-bit", engine="HF transformers")
    assert new.upper / new.value > 9.9


def test_a_mode_that_nobody_ran_is_slower_in_proportion() -> None:
    """Ten watts in place of the usual 25 take 2.5 times as long, marked; 40 change nothing."""
    about = {"weights_bytes": 2e9, "precision": "Q4_K_M"}
    usual = predict("Orin Nano Super", power_mode="25W", **about)
    low = predict("Orin Nano Super", power_mode="10W", **about)
    high = predict("Orin Nano Super", power_mode="40W", **about)
    assert usual.value / low.value == pytest.approx(2.5)
    assert high.value == pytest.approx(usual.value)
    assert any("power mode '10W'" in reason for reason in low.reasons)


def test_engines_that_keep_a_card_idle_say_nothing_of_others(profiles: Profiles) -> None:
    """The RTX 5090's joules are all of host-bound engines: any other one is marked."""
    assert "RTX 5090" in profiles.fit.calibration.host_bound
    compiled = predict("RTX 5090", 5.03e9, quantity="power_w")
    assert "no run with a compiled engine" in compiled.reasons
    assert compiled.extrapolated
