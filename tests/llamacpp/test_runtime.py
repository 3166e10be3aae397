"""What llama-server prints of a command line is read as it means it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from moe2opt.errors import InputError
from moe2opt.llamacpp.runtime import Told, ask, parsed

#: Printed by llama-server b10434 for gpt-oss-120b on two devices of 24 and 12 GiB.
PRINTED = """\
0.00.271.804 I sched_reserve: RPC0[127.0.0.1:18162] compute buffer size =   119.51 MiB
0.00.331.549 I common_memory_breakdown_print: | memory breakdown [MiB]     | total    free     self   model   context   compute    unaccounted |
0.00.331.741 I common_memory_breakdown_print: |   - RPC0 (127.0.0.1:18162) | 24576 = 24576 + (35591 = 34684 +     787 +     119) +      -35591 |
0.00.331.779 I common_memory_breakdown_print: |   - RPC1 (127.0.0.1:18163) | 12288 = 12288 + (19199 = 18695 +     391 +     112) +      -19199 |
0.00.331.813 I common_memory_breakdown_print: |   - Host                   |                    715 =   603 +       0 +     111                |
0.00.331.846 I common_memory_breakdown_print: |   - CPU_REPACK             |                   6454 =  6454 +       0 +       0                |
0.00.333.745 I common_params_fit_impl: projected memory use with initial parameters [MiB]:
0.00.334.088 W common_fit_params: failed to fit params to free device memory: n_gpu_layers already set by user to 37, abort
"""  # noqa: E501


def test_the_table_is_read() -> None:
    """Devices come in order with total and free memory; RAM is all that is no device."""
    answer = parsed(PRINTED.splitlines())
    assert answer.devices == (
        Told("RPC0 (127.0.0.1:18162)", 34684, 787, 119, 24576, 24576),
        Told("RPC1 (127.0.0.1:18163)", 18695, 391, 112, 12288, 12288),
    )
    assert answer.ram == Told("RAM", 603 + 6454, 0, 111)


def test_only_the_first_table_counts() -> None:
    """What it measures for other options, to find what fits, is passed over."""
    again = PRINTED.replace("34684", "99999")
    assert parsed((PRINTED + again).splitlines()).devices[0].weights_mib == 34684


def program(folder: Path, body: str) -> Path:
    """Write a program in place of llama-server."""
    path = folder / "llama-server"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_program_is_asked_and_ended(tmp_path: Path) -> None:
    """A program that goes on after its table is ended; its options are those of the line."""
    (tmp_path / "printed").write_text(PRINTED)
    told = tmp_path / "told"
    path = program(tmp_path, f'echo "$@" > {told}; cat {tmp_path}/printed; exec sleep 600')
    answer = ask(path, ["-m", "x.gguf", "-ngl", "3", "--fit", "off"], timeout_s=60)
    assert len(answer.devices) == 2
    options = told.read_text().split()
    assert options[:6] == ["-m", "x.gguf", "-ngl", "3", "--fit", "on"]
    assert "off" not in options[:7]
    assert ask(tmp_path, ["-m", "x.gguf"], timeout_s=60) == answer


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("echo 'error: invalid argument: -xyz'", "error: invalid argument: -xyz"),
        ("echo 'llama_model_load: error loading model'; exit 1", "error loading model"),
        ("exit 0", "did not say what it needs: nothing"),
        ("printf 'no \\033[31m such thing\\n'", "did not say what it needs: no .*such thing"),
    ],
)
def test_what_does_not_answer_is_told(tmp_path: Path, body: str, fault: str) -> None:
    """A program that prints no table is told by what it said instead, on one plain line."""
    with pytest.raises(InputError, match=fault) as told:
        ask(program(tmp_path, body), ["-m", "x.gguf"], timeout_s=20)
    assert "\033" not in str(told.value)


def test_a_program_that_hangs_or_talks_without_end_is_left(tmp_path: Path) -> None:
    """One that says nothing is told so when time is up; of endless talk only the start is read."""
    with pytest.raises(InputError, match=r"llama-server did not say what it needs in 0\.3 s"):
        ask(program(tmp_path, "exec sleep 60"), [], timeout_s=0.3)
    with pytest.raises(InputError, match="did not say what it needs: rubbish"):
        ask(program(tmp_path, "exec yes rubbish"), [], timeout_s=60)


def test_no_program_is_told(tmp_path: Path) -> None:
    """A folder without llama-server is refused by name."""
    with pytest.raises(InputError, match="no program 'llama-server'"):
        ask(tmp_path, [])
