"""Every fault of a measured table is told with file, line and what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

import moe2opt as mo

HEAD = "llm,server,precision,s_per_prompt,j_per_prompt\n"
GOOD = "alpha,slow,int8,3,30\n"
BOX = "llm,device,server,precision,seconds\n"
TWO = {"precisions": [{"name": "int8"}, {"name": "q4"}]}
STRICT = {"measured": {"file": "lab.csv", "strict": True}}

#: (table, overrides, message)
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("", {}, "lab.csv:1: column 'server' (or 'device') is missing: where was it measured?"),
    (GOOD, {}, "lab.csv:1: column 'server' (or 'device') is missing: where was it measured?"),
    ("model,server,seconds\n", {}, "lab.csv:1: column 'llm' is missing"),
    ("llm,server,precision\n", {},
     "lab.csv:1: no column of figures, such as s_per_prompt, decode_tokens_per_s, j_per_prompt"),
    ("llm,server,latency\nalpha,slow,3\n", {},
     "lab.csv:1: column 'latency': its unit is missing: did you mean 's_per_prompt'?"),
    ("llm,server,energy,seconds\nalpha,slow,3,2\n", {},
     "lab.csv:1: column 'energy': its unit is missing: did you mean 'j_per_prompt'?"),
    ("llm,server,decode,seconds\nalpha,slow,3,2\n", {},
     "lab.csv:1: column 'decode': its unit is missing: did you mean 'decode_tokens_per_s'?"),
    ("llm,server,s_per_promt\nalpha,slow,3\n", {},
     "lab.csv:1: no column of figures, such as s_per_prompt, decode_tokens_per_s, j_per_prompt"),
    (HEAD.replace("j_per_prompt", "j_per_promt") + GOOD, {},
     "lab.csv:1: unknown column 'j_per_promt'; did you mean 'j_per_prompt'?"),
    ("llm,server,s_per_prompt,ms_per_prompt\nalpha,slow,3,3000\n", {},
     "lab.csv:1: columns 's_per_prompt' and 'ms_per_prompt' say the same thing"),
    (HEAD + GOOD + "beta,slow,int8,-1,30\n", {},
     "lab.csv:3: s_per_prompt: -1 is outside 0..inf"),
    (HEAD + "alpha,slow,int8,nan,30\n", {}, "lab.csv:2: s_per_prompt: nan is not finite"),
    (HEAD + "alpha,slow,int8,3,inf\n", {}, "lab.csv:2: j_per_prompt: inf is not finite"),
    (HEAD + "alpha,slow,int8,3 s,30\n", {}, "lab.csv:2: s_per_prompt: '3 s' is not a number"),
    ("llm,server,decode_tokens_per_s\nalpha,slow,0\n", {},
     "lab.csv:2: decode_tokens_per_s: 0 is outside 1e-300..inf"),
    (HEAD + "alpha,slow,int8,,\n", {}, "lab.csv:2: no figure: all of its cells are empty"),
    (HEAD + "alpha,,int8,3,30\n", {}, "lab.csv:2: server: neither a server nor a device is named"),
    (HEAD + ",slow,int8,3,30\n", {}, "lab.csv:2: llm: the cell is empty"),
    (HEAD + "alpha,slow,int8,3\n", {}, "lab.csv:2: 4 cells, the header has 5"),
    (HEAD + GOOD + "alpha,slow,int8,4,40\n", {},
     "lab.csv:3: llm, server, precision: 'alpha, slow, int8' repeats line 2"),
    (HEAD + "alfa,slow,int8,3,30\n", {},
     "lab.csv:2: llm: there is no llm 'alfa' in the problem; did you mean 'alpha'?"),
    (HEAD + "alpha,slowly,int8,3,30\n", {},
     "lab.csv:2: server: there is no server 'slowly' in the problem; did you mean 'slow'?"),
    (BOX + "alpha,slow box,,int8,3\n", {},
     "lab.csv:2: device: there is no device 'slow box' in the problem; did you mean 'slow-box'?"),
    (BOX + "alpha,fast-box,slow,int8,3\n", {}, "lab.csv:2: device: server 'slow' is no 'fast-box'"),
    (HEAD + "alpha,slow,int4,3,30\n", {},
     "lab.csv:2: precision: there is no precision 'int4' in the problem; did you mean 'int8'?"),
    ("llm,server,seconds\nalpha,slow,3\n", TWO, "lab.csv:2: precision: which of int8, q4?"),
    ("llm,server,category,seconds\nalpha,slow,verse,3\n", {},
     "lab.csv:2: category: there is no category 'verse' in the problem"),
    ("llm,server,category,usd_per_hour\nalpha,slow,code,3\n", {},
     "lab.csv:2: category: a price per hour is one of all prompts"),
    ("llm,server,prompt,seconds\nalpha,slow,q1,3\n", {},
     "lab.csv:2: prompt: rows of single prompts need `experts`"),
    (HEAD + GOOD, {"servers.0.llms": ["beta"]},
     "lab.csv:2: alpha int8 @ slow: the configuration does not let it run there"),
    (BOX + "alpha,slow-box,,int8,3\n", {"fixed": {"alpha": "fast"}},
     "lab.csv:2: alpha int8 @ slow-box: the configuration does not let it run there"),
    (HEAD + GOOD, {"measured": "lob.csv"}, "lob.csv: No such file or directory"),
    (HEAD + GOOD, {"measured": {"file": "lab.csv", "strickt": True}},
     "measured.strickt: unknown key; did you mean 'strict'?"),
    (HEAD + GOOD, {"measured": "../lab.csv"}, "measured: '../lab.csv' leaves the folder"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "overrides", "message"), FAULTS)
def test_faults(text: str, overrides: dict[str, Any], message: str, table: Any) -> None:
    """The message says where and what."""
    with pytest.raises(mo.InputError) as caught:
        table(text, overrides)
    assert message in str(caught.value)
    assert len([line for line in str(caught.value).splitlines() if "Traceback" in line]) == 0


def test_a_strict_table_names_what_it_lacks(table: Any) -> None:
    """`strict` refuses missing cells of every quantity that has a column or a limit."""
    text = "llm,server,precision,category,decode_tokens_per_s,j_per_prompt\n" + "".join(
        f"{llm},{server},int8,code,9,5\n" for llm in ("alpha", "beta", "gamma") for server in
        ("slow", "fast")
    )  # fmt: skip
    with pytest.raises(mo.InputError) as caught:
        table(text, STRICT)
    lines = str(caught.value).splitlines()
    assert "measured.strict: lab.csv does not say all:" in lines[0]
    assert lines[1] == (
        "alpha int8 @ slow: seconds (no s_per_prompt), joules in prose (no j_per_prompt)"
    )


def test_a_strict_table_that_says_all_is_accepted(table: Any) -> None:
    """Nothing is predicted with a complete strict table, and no note speaks of predictions."""
    text = HEAD + "".join(
        f"{llm},{server},int8,{k + 1},{9 * k}\n"
        for k, llm in enumerate(("alpha", "beta", "gamma"))
        for server in ("slow", "fast")
    )
    tiny = table(text, STRICT)
    assert {expert.basis for expert in tiny.experts} == {"measured"}
    assert not any("predict" in note for note in tiny.notes)


def test_all_faults_are_told_at_once(table: Any) -> None:
    """Several faulty rows are one error with a line for each."""
    with pytest.raises(mo.InputError) as caught:
        table(HEAD + "alfa,slow,int8,3,30\nbeta,slwo,int8,3,30\n")
    assert "lab.csv:2" in str(caught.value) and "lab.csv:3" in str(caught.value)
