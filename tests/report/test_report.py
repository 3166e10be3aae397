"""The page as a file: what it says is what the folder holds, and nothing of it can be run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from moe_gguf import PLAIN, write_moe
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.pareto import Axis, Cell, Grid
from moe2opt.report import make_report, read_folder, read_log, write_report
from moe2opt.report.gridding import between, default_axes, parse_axes
from moe2opt.report.page import render
from moe2opt.result import InputError, Result

LARGEST_BYTES = 3_000_000


class Outline(HTMLParser):
    """Tags with their attributes, and the text of the page outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self.inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All texts, white space joined."""
        return " ".join(" ".join(self.texts).split())


def payload(html: str) -> dict[str, Any]:
    """Return what the scripts of a page draw."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_page_says_what_the_result_says(tiny_folder: Path) -> None:
    """Name, objective, budgets, experts, notes, versions and digest of the result are on it."""
    result = Result.load(tiny_folder / "result.json")
    page = Outline(make_report(tiny_folder).html).text
    assert "Proven optimal" in page
    assert "Optimal: expected share of correct answers 0.7; no plan is worth more than 0.7." in page
    assert "126 of 130" in page
    assert "which prompts go to which of them" in page
    words = [result.provenance["problem"]["sha256"], result.provenance["versions"]["numpy"]]
    words += [note for note in result.plan["caveats"]]
    words += [expert["llm"] for expert in result.plan["experts"]]
    assert [word for word in words if word not in page] == []


def test_explorer_holds_the_grid(tiny_folder: Path, grid_of_tiny: Grid) -> None:
    """Every cell of the grid is in the explorer with its status, value, bound and certificate."""
    cells = payload(make_report(tiny_folder).html)["explorer"]["cells"]
    assert len(cells) == len(grid_of_tiny)
    for shown, cell in zip(cells, grid_of_tiny, strict=True):
        assert (shown["s"], shown["c"], shown["p"]) == (cell.status, cell.certified, cell.plan)
        value = None if cell.plan is None else pytest.approx(cell.objective, rel=1e-6)
        assert shown["v"] == value


def test_only_our_script_and_style_may_be_used(tiny_folder: Path) -> None:
    """The page's policy allows no source but the script and the style whose digests it names."""
    html = make_report(tiny_folder).html
    policy = next(a["content"] for t, a in Outline(html).tags if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert len(texts) == 1
        assert f"{name} 'sha256-{digest}'" in policy


def test_page_points_nowhere(tiny_folder: Path) -> None:
    """No tag of the page refers to anything outside of it, and none has an inline style."""
    for _, attributes in Outline(make_report(tiny_folder).html).tags:
        for key in ("src", "href", "action", "data", "srcset", "poster"):
            assert (attributes.get(key) or "#")[:1] == "#" or attributes[key] == "data:,"
        assert "style" not in attributes
        assert not any(key.startswith("on") for key in attributes)


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "</script><b>", "\"'><img src=x>", "{{ 7 * 7 }}", "<!--"]
)
def test_names_cannot_break_out(copy_of_tiny: Path, evil: str) -> None:
    """Whatever an instance, a server, a note or a key is called, the page has the same tags."""
    tags = [tag for tag, _ in Outline(make_report(copy_of_tiny).html).tags]
    for name in ("result.json", "grid.json"):
        text = (copy_of_tiny / name).read_text(encoding="utf-8")
        for word in ('"tiny"', '"slow"', '"code"', '"energy_j_per_prompt"', '"brb"'):
            text = text.replace(f": {word}", f": {json.dumps(evil)}")
        (copy_of_tiny / name).write_text(text, encoding="utf-8")
    with (copy_of_tiny / "config.yaml").open("a", encoding="utf-8") as stream:
        stream.write(f"# {evil}\n")
    page = Outline(make_report(copy_of_tiny).html)
    assert [tag for tag, _ in page.tags] == tags
    assert unescape(evil) in "".join(page.texts)


def test_rejected_result_has_a_red_badge(copy_of_tiny: Path) -> None:
    """A result whose objective was changed by hand is called rejected, with the reason."""
    path = copy_of_tiny / "result.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    canonical = {"objective": 0.69, "bound": data["canonical"]["bound"]}
    damage = {"objective": 0.69, "canonical": canonical, "status": "FEASIBLE"}
    path.write_text(json.dumps(data | damage), encoding="utf-8")
    badge = make_report(copy_of_tiny).badge
    assert (badge.tone, badge.title) == ("bad", "Rejected by the checker")
    assert "the result says 0.69" in badge.text


def test_unknown_configuration_leaves_the_certificate_open(copy_of_tiny: Path) -> None:
    """Without the problem at hand the page claims no check; with it named, the check is made."""
    path = copy_of_tiny / "result.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["provenance"]["file"] = "mine.yaml"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert make_report(copy_of_tiny).badge.title.startswith("Not checked: ")
    assert make_report(copy_of_tiny, config="tiny").badge.title == "Proven optimal"
    with pytest.raises(InputError, match="other data"):
        make_report(copy_of_tiny, config="mmlu_pro_edge")


def test_hint_of_the_page_can_be_followed(copy_of_tiny: Path) -> None:
    """The page names the flags that compute a grid, or says why there is none to be had."""
    (copy_of_tiny / "grid.json").unlink()
    flags = "--grid --axis NAME=LOW:HIGH --axis NAME=LOW:HIGH computes"
    assert f"moe2opt report DIR {flags}" in Outline(make_report(copy_of_tiny).html).text
    named = Outline(make_report(copy_of_tiny, config="tiny").html).text
    assert f"moe2opt report DIR --config CONFIG {flags}" in named
    box = mo.MonotoneProblem(lower=[0], upper=[1], objective=lambda x: x[:, 0], constraints=[])
    evidence = replace(read_folder(copy_of_tiny), result=mo.solve(box), config="")
    assert "no budgets that a grid could vary" in Outline(render(evidence, box).html).text
    assert "name the configuration of the run" in Outline(render(evidence, None).html).text


def test_claims_of_milp_are_called_claims(tmp_path: Path, solve_into: Callable[..., Any]) -> None:
    """A bound without a certificate is called claimed."""
    solve_into(tmp_path, "tiny", solver="milp")
    badge = make_report(tmp_path).badge
    assert (badge.tone, badge.title) == ("open", "Claimed, not proven")


def test_limit_shows_the_proven_gap(tmp_path: Path, solve_into: Callable[..., Any]) -> None:
    """A run that a limit stopped is never called optimal."""
    solve_into(tmp_path, "tiny", solver="polyblock", node_limit=0)
    report = make_report(tmp_path)
    assert (report.badge.tone, report.badge.title) == ("open", "No plan found")
    assert "No plan found" in Outline(report.html).text


def test_infeasible_page_names_the_clash(tmp_path: Path, solve_into: Callable[..., Any]) -> None:
    """The page of an infeasible problem proves it and says from which budget on a plan exists."""
    solve_into(tmp_path, "tiny", scenario="infeasible")
    report = make_report(tmp_path)
    page = Outline(report.html).text
    assert report.badge.title == "Proven: no plan exists"
    assert "These budgets cannot hold together" in page
    assert "energy_j_per_prompt 42" in page


def test_grid_alone_makes_a_page(tmp_path: Path, grid_of_tiny: Grid) -> None:
    """A folder with nothing but a grid has an explorer, and a badge that counts certified cells."""
    grid_of_tiny.save(tmp_path / "grid.json")
    report = make_report(tmp_path)
    assert report.explorer
    assert report.badge.title == "Not every result is certified"
    assert "14 of 15" in report.badge.text


def test_bare_problems_have_a_page(tmp_path: Path) -> None:
    """The result of a bare problem, which has no plan, is shown with its objective."""
    problem = mo.FacilityProblem(values=[[3, 0], [0, 4]], costs=[[1, 1]], budgets=[1])
    mo.solve(problem).save(tmp_path / "result.json")
    page = Outline(make_report(tmp_path).html).text
    assert "Optimal: objective 4; no plan is worth more than 4." in page


def test_largest_page_is_small() -> None:
    """The built-in selection with a 20 × 20 grid of 400 plans stays under 3 MB."""
    from moe2opt.report.reading import Evidence

    edge = mo.load("mmlu_pro_edge")
    result = mo.solve(edge)
    plan = result.plan.to_dict()
    stored = replace(result, plan=plan)
    cells = [
        Cell((i, j), (1.0 + i, 1.0 + j), "OPTIMAL", None, 0.4, 0.4, True, plan=20 * i + j)
        for i in range(20)
        for j in range(20)
    ]
    values = tuple(1.0 + k for k in range(20))
    axes = (Axis("energy_j_per_prompt", "row", values), Axis("delay.limit_s", "key", values))
    grid = Grid(edge.name, axes, tuple(cells), (plan,) * 400)
    found = Evidence(
        Path(__file__).parent, stored, result.log, edge.source.effective_yaml(), (), (grid,)
    )
    assert len(render(found, None).html.encode()) <= LARGEST_BYTES


def test_default_page_is_in_the_folder(copy_of_tiny: Path) -> None:
    """The page goes to report.html in the folder, or where it is told to; the rest stays as is."""
    before = {path.name: path.read_bytes() for path in copy_of_tiny.iterdir()}
    _, path = write_report(copy_of_tiny)
    assert path == copy_of_tiny / "report.html"
    assert {p.name: p.read_bytes() for p in copy_of_tiny.iterdir() if p != path} == before
    with pytest.raises(InputError, match="No such file"):
        write_report(copy_of_tiny, copy_of_tiny / "missing" / "page.html")


# ---------------------------------------------------------------------- reading


def test_log_is_read_as_it_was_written(tiny_folder: Path) -> None:
    """The log of a run comes back event by event, infinite bounds included."""
    text = (tiny_folder / "log.jsonl").read_text(encoding="utf-8")
    events = read_log(tiny_folder / "log.jsonl")
    assert [event.nodes for event in events] == [json.loads(t)["nodes"] for t in text.splitlines()]
    assert events[0].bound == float("inf")


def test_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """A log that ends in the middle of a line is read up to there; a broken line is named."""
    good = (
        '{"time_s": 1, "nodes": 2, "open_nodes": 1, "bound": "inf", "objective": 3, "source": "H"}'
    )
    path = tmp_path / "log.jsonl"
    path.write_text(f'{good}\n{{"time_s": 2', encoding="utf-8")
    assert [event.time_s for event in read_log(path)] == [1.0]
    path.write_text(f"[]\n{good}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"log\.jsonl:1: not an event"):
        read_log(path)


def test_the_page_shows_the_plan_of_the_solution(copy_of_tiny: Path) -> None:
    """Names and figures that are not those of the solution are rejected and not shown."""
    path = copy_of_tiny / "result.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["plan"]["experts"][0]["llm"] = "EVIL-70B"
    data["plan"]["predicted_accuracy"] = 0.999
    del data["plan"]["budgets"]
    path.write_text(json.dumps(data), encoding="utf-8")
    report = make_report(copy_of_tiny)
    assert report.badge.tone == "bad"
    assert "plan.experts[0].llm is not what it must be" in report.badge.text
    assert "EVIL" not in report.html
    assert "99.9" not in report.html
    data["provenance"]["file"] = "mine.yaml"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="plan: not understood: not a selection plan: budgets"):
        make_report(copy_of_tiny)


def break_grid(folder: Path) -> None:
    """Take the axes out of a grid."""
    path = folder / "grid.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["axes"]
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_grid, "grid.json: not a grid"),
        (lambda folder: (folder / "result.json").write_text("{"), "result.json: not JSON"),
        (
            lambda folder: (folder / "config.yaml").write_bytes(b"\xff\xff"),
            "config.yaml: not UTF-8 text",
        ),
    ],
)
def test_broken_files_are_named(
    copy_of_tiny: Path, damage: Callable[[Path], Any], message: str
) -> None:
    """A file that is damaged is refused with its name and what is wrong."""
    damage(copy_of_tiny)
    with pytest.raises(InputError, match=re.escape(message)):
        make_report(copy_of_tiny)


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    """A folder without results, and one that does not exist, are refused with the next step."""
    with pytest.raises(InputError, match="solve CONFIG --out DIR"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_folder(tmp_path / "nowhere")


# ---------------------------------------------------------------------- replays


def replayed(folder: Path, latencies: list[float | None], synthetic: bool = True) -> None:
    """Write what ``replay --out`` writes, for one policy."""
    sums = {"latency_mean_s": 0.5, "latency_p95_s": 0.9, "regret": 0.25, "replans": 3,
            "bytes_moved": 2.0**31, "budget_violations": 0}  # fmt: skip
    trace = {"name": "walk", "source": "drawn", "synthetic": synthetic, "steps": len(latencies)}
    summary = {"instance": "mobile", "trace": trace, "policies": {"trigger": sums}}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    lines = [json.dumps({"t_s": k, "latency_s": v}) + "\n" for k, v in enumerate(latencies)]
    (folder / "steps_trigger.jsonl").write_text("".join(lines), encoding="utf-8")


def test_replay_has_a_page_that_claims_no_proof(tmp_path: Path) -> None:
    """Policies on a trace are shown with their sums, and a synthetic trace is called that."""
    replayed(tmp_path, [0.5, None, 0.7])
    report = make_report(tmp_path)
    page = Outline(report.html).text
    assert (report.badge.tone, report.badge.title) == ("open", "Replayed")
    assert "walk: a synthetic trace (drawn), 3 steps." in page
    assert "trigger 0.5 0.9 25.0 % 3 2 0" in page
    curve = payload(report.html)["replay"][0]
    assert curve == {"name": "trigger", "time": [0, 1, 2], "value": [0.5, None, 0.7]}


def test_long_replays_keep_their_peaks(tmp_path: Path) -> None:
    """A long log is thinned out without losing its largest latency or a step without a plan."""
    latencies: list[float | None] = [0.5] * 5000
    latencies[1234], latencies[4000] = 9.0, None
    replayed(tmp_path, latencies)
    values = payload(make_report(tmp_path).html)["replay"][0]["value"]
    assert len(values) <= 400
    assert max(value for value in values if value is not None) == 9.0
    assert values.count(None) == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("summary.json", '{"policies": 1, "trace": 2}', "summary.json: not a replay"),
        ("steps_trigger.jsonl", '{"latency_s": 1}\n', "steps_trigger.jsonl:1: not a step"),
    ],
)
def test_broken_replays_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    """A damaged file of a replay is refused with its name."""
    replayed(tmp_path, [0.5])
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        make_report(tmp_path)


# ---------------------------------------------------------------------- figures and grids


def test_map_of_a_placement_holds_every_expert(tmp_path: Path) -> None:
    """The runs of each layer add up to its experts, and to the experts of each tier in all."""
    result = mo.solve(mo.load("three_tier_edge"))
    result.save(tmp_path / "result.json")
    plan, found = result.plan, payload(make_report(tmp_path).html)["map"]
    lengths = [sum(length for _, length in runs) for runs in found["rows"]]
    assert lengths == [found["cells"]] * len(plan.layers)
    for tier, name in enumerate(found["places"]):
        total = sum(n for runs in found["rows"] for t, n in runs if t == tier)
        assert total == next(t.experts for t in plan.tiers if t.name == name)


def test_front_alone_makes_a_page(tmp_path: Path) -> None:
    """A folder with a front has its points, bounds and certificates on the page, and its knee."""
    tiny = mo.load("tiny")
    front = mo.pareto(tiny, x="energy_j_per_prompt", budgets=[40, 60, 126, 240])
    front.save(tmp_path / "front.json")
    report = make_report(tmp_path)
    shown = payload(report.html)["front"]
    assert report.badge.title == "Every result certified"
    assert shown["x"] == [40, 60, 126, 240]
    assert shown["value"] == pytest.approx([p.objective for p in front])
    assert shown["certified"] == [True] * 4
    assert shown["knee"] == front.knee
    assert "the outcomes are synthetic" in Outline(report.html).text


def test_a_front_that_says_something_else_is_rejected(tmp_path: Path) -> None:
    """With its proofs beside it, a front on the page is judged like a result."""
    from moe2opt.pareto import save_results

    front = mo.pareto(mo.load("tiny"), x="energy_j_per_prompt", budgets=[60, 126])
    content = json.loads(json.dumps(front.to_dict()))
    save_results(front, tmp_path / "results")
    for llm, tone in (("gamma", "bad"), (content["plans"][0]["experts"][0]["llm"], "good")):
        content["plans"][0]["experts"][0]["llm"] = llm
        (tmp_path / "front.json").write_text(json.dumps(content), encoding="utf-8")
        (tmp_path / "config.yaml").write_text(
            mo.load("tiny").source.effective_yaml(), encoding="utf-8"
        )
        assert make_report(tmp_path).badge.tone == tone


def test_default_axes_surround_the_present_limits() -> None:
    """Selection explores energy and delay, placement memory and loss, around what the file says."""
    edge = default_axes(mo.load("mmlu_pro_edge"), 20)
    assert list(edge) == ["energy_j_per_prompt", "delay.limit_s"]
    assert all(len(set(values)) == 20 for values in edge.values())
    assert edge["energy_j_per_prompt"][0] < 1200 < edge["energy_j_per_prompt"][-1]
    phone = default_axes(mo.load("switch_base_128_phone"), 3)
    assert [name.split(".")[-1] for name in phone] == ["capacity_gib", "loss_nats"]


@pytest.mark.parametrize(
    "texts", [["a=1:2"], ["a=1:2", "b=2"], ["a=1:2", "b=3:2"], ["a=0:1", "b=1:2"]]
)
def test_axes_that_are_not_understood_are_refused(texts: list[str]) -> None:
    """The explorer needs two named ranges of positive, rising budgets."""
    with pytest.raises(InputError):
        parse_axes(texts, 3)
    assert parse_axes(["a.b=1:4", "c=2:8"], 3) == {"a.b": (1, 2, 4), "c": (2, 4, 8)}
    assert between(1, 100, 3) == (1, 10, 100)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the command line and return exit code and stdout."""
    from moe2opt.cli.app import app

    code = app(list(arguments), standalone_mode=False)
    return int(code or 0), capsys.readouterr().out


def test_verb_adds_a_grid_and_writes_the_page(
    copy_of_tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`report --grid` computes the grid, keeps it, and writes a page with an explorer."""
    (copy_of_tiny / "grid.json").unlink()
    axes = ("--axis", "energy_j_per_prompt=60:200", "--axis", "delay.limit_s=5:10", "--points", "2")
    code, out = run(capsys, "report", str(copy_of_tiny), "--grid", *axes, "--json", "--quiet")
    told = json.loads(out)
    assert (code, told["explorer"], told["badge"]) == (0, True, "Proven optimal")
    assert told["bytes"] == (copy_of_tiny / "report.html").stat().st_size
    grid = Grid.load(copy_of_tiny / "grid.json")
    assert grid.certified
    assert grid.objectives[0, 0] == pytest.approx(0.6)


def test_limit_of_the_cells_is_kept(copy_of_tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells that a limit stops are kept as what they are: no cell of theirs is called optimal."""
    axes = ("--axis", "energy_j_per_prompt=60:200", "--axis", "delay.limit_s=5:10", "--points", "2")
    code, _ = run(
        capsys, "report", str(copy_of_tiny), "--grid", *axes, "--time-limit", "0", "--quiet"
    )
    assert code == 0
    statuses = {cell.status for cell in Grid.load(copy_of_tiny / "grid.json")}
    assert statuses <= {"FEASIBLE", "NO_SOLUTION"}


def test_verb_tells_how_to_get_an_explorer(
    copy_of_tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a grid the verb succeeds and names the flag that computes one."""
    (copy_of_tiny / "grid.json").unlink()
    code, out = run(capsys, "report", str(copy_of_tiny))
    assert code == 0
    assert "--grid" in out


def test_verb_adds_a_grid_to_a_front(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a front the hint is given and works; without the problem at hand it is not given."""
    axis = ("--x", "energy_j_per_prompt", "--x-budgets", "100,130")
    assert run(capsys, "pareto", "tiny", *axis, "--out", str(tmp_path), "--quiet")[0] == 0
    assert "--grid" in run(capsys, "report", str(tmp_path))[1]
    axes = ("--axis", "energy_j_per_prompt=60:200", "--axis", "delay.limit_s=5:10")
    more = (*axes, "--points", "2", "--json", "--quiet")
    code, out = run(capsys, "report", str(tmp_path), "--grid", *more)
    assert (code, json.loads(out)["explorer"]) == (0, True)
    (tmp_path / "grid.json").unlink()
    (tmp_path / "config.yaml").unlink()
    assert "--grid" not in run(capsys, "report", str(tmp_path))[1]


@pytest.mark.parametrize("name", ["sweep", "fleet", "execute"])
def test_folders_of_other_verbs_are_named(name: str, tmp_path: Path) -> None:
    """A folder of a verb that has no page is called by its name, with what can be reported."""
    (tmp_path / f"{name}.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="which has no page; report"):
        read_folder(tmp_path)


def test_verb_ends_with_6_for_a_rejected_result(
    copy_of_tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A result that the checker rejects still gets its page, and exit code 6."""
    path = copy_of_tiny / "result.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(data | {"objective": 0.71}), encoding="utf-8")
    code, out = run(capsys, "report", str(copy_of_tiny), "--quiet")
    assert code == 6
    assert "Rejected by the checker" in out


def test_a_configuration_may_name_files_elsewhere(tmp_path: Path) -> None:
    """The configuration beside a result names the model where it lies; a flag lets it be read."""
    write_moe(tmp_path / "m.gguf", [PLAIN, PLAIN])
    folder = tmp_path / "result"
    asked = ["place", str(tmp_path / "m.gguf"), "--ram", "8", "--out", str(folder)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    config = str(folder / "config.yaml")
    with pytest.raises(InputError, match="leaves the folder"):
        make_report(folder, config)
    assert make_report(folder, config, allow_outside=True).badge.tone == "good"
