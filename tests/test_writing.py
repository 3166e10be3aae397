"""Files appear whole or not at all, and nothing that is somebody else's is replaced."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

import moe2opt as mo
from moe2opt.result import InputError
from moe2opt.writing import MANIFEST, check_ours, ours, replacing, write_frame, write_text


def test_a_block_that_fails_leaves_the_older_file(tmp_path: Path) -> None:
    """Whatever is raised while a file is written, the older one stays and nothing is left over."""
    path = tmp_path / "a.json"
    write_text(path, "older")
    for error in (KeyboardInterrupt(), ValueError("x"), OSError(errno.ENOSPC, "No space left")):
        with pytest.raises((KeyboardInterrupt, ValueError)), replacing(path) as beside:
            beside.write_text("new")
            raise error
    assert path.read_text() == "older"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_faults_name_the_file(tmp_path: Path) -> None:
    """A fault of the system is an input error with the name of the file that was meant."""
    (tmp_path / "file").write_text("")
    for path, reason in (
        (tmp_path / "none" / "a.json", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "file" / "a.json", "Not a directory"),
    ):
        with pytest.raises(InputError, match=f"^{path}: {reason}$"):
            write_text(path, "new")


def test_mode_and_links_stay(tmp_path: Path) -> None:
    """A file keeps its mode, a link stays a link, and a pipe is written to."""
    target, link = tmp_path / "a.sh", tmp_path / "link"
    write_text(target, "1")
    target.chmod(0o755)
    link.symlink_to(target)
    write_text(link, "2")
    assert link.is_symlink()
    assert target.read_text() == "2"
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "3")
    assert os.read(reader, 10) == b"3"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_only_files_of_ours_are_replaced(tmp_path: Path) -> None:
    """A file of a name that we did not write there is refused by name; ours are known again."""
    (tmp_path / "log.jsonl").write_text("mine")
    ours(tmp_path, ["result.json"])
    write_text(tmp_path / "result.json", "{}")
    check_ours(tmp_path, ["result.json", "other.json"])
    with pytest.raises(InputError, match=r"log\.jsonl was not written by moe2opt"):
        ours(tmp_path, ["result.json", "log.jsonl"])
    assert (tmp_path / MANIFEST).read_text() == "result.json\n"


def test_saved_results_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills up, a saved result, problem or front keeps its older content."""
    problem = mo.FacilityProblem(values=[[3, 0, 2]], costs=[[1, 1, 1]], budgets=[1])
    front = mo.pareto(problem, x="budgets[0]", points=2)
    paths = [
        tmp_path / name for name in ("result.json", "problem.json", "problem.npz", "front.json")
    ]
    saves = [
        mo.solve(problem).save,
        lambda path: mo.save_problem(problem, path),
        lambda path: mo.save_problem(problem, path),
        front.save,
    ]
    for path, save in zip(paths, saves, strict=True):
        save(path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = [path.read_bytes() for path in paths]
    monkeypatch.setattr(os, "fsync", full)
    for path, save in zip(paths, saves, strict=True):
        with pytest.raises(InputError, match=f"^{path}: No space left on device$"):
            save(path)
    assert [path.read_bytes() for path in paths] == before
    assert len([*tmp_path.iterdir()]) == len(paths)


def test_the_users_configuration_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    """`--out .` beside the user's config.yaml writes its own copy under a name of its own."""
    import shutil

    from typer.testing import CliRunner

    from moe2opt.cli import app

    for name in ("tiny_tables", "tiny_profiles"):
        shutil.copytree(checkout / "problems" / "selection" / name, tmp_path / name)
    text = (checkout / "problems" / "selection" / "tiny.yaml").read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        return CliRunner().invoke(app, [*arguments, "--quiet"]).exit_code

    flags = ("--set", "max_experts=1", "--scenario", "rich", "--out", ".")
    for _ in range(2):
        assert run("solve", "config.yaml", *flags) == 0
        assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == text
        assert run("verify", "result.json", "moe2opt.config.yaml") == 0
        assert run("check", "moe2opt.config.yaml") == 0
    assert run("report", ".") == 0
    (tmp_path / "log.jsonl").write_text("mine")
    (tmp_path / MANIFEST).unlink()
    assert run("solve", "config.yaml", *flags) == 2
    assert (tmp_path / "log.jsonl").read_text() == "mine"


@pytest.mark.parametrize("scenario", [(), ("--scenario", "rich", "--set", "max_experts=1")])
def test_a_folder_verifies_with_its_own_configuration(
    tmp_path: Path, scenario: tuple[str, ...]
) -> None:
    """`verify` and `check` read the configuration that `--out` wrote, with scenario and paths."""
    from typer.testing import CliRunner

    from moe2opt.cli import app

    out = tmp_path / "out"
    run = CliRunner()
    assert run.invoke(app, ["solve", "tiny", *scenario, "--out", str(out)]).exit_code == 0
    ran = run.invoke(app, ["verify", str(out / "result.json"), str(out / "config.yaml")])
    assert ran.exit_code == 0, ran.output
    assert run.invoke(app, ["check", str(out / "config.yaml")]).exit_code == 0
    found, made = mo.load(out / "config.yaml"), json.loads((out / "result.json").read_text())
    assert found.source.name == made["provenance"]["instance"]


def test_an_edited_copy_is_its_editors(tmp_path: Path) -> None:
    """A configuration of ours that was edited is not replaced, and no longer stands for another."""
    from typer.testing import CliRunner

    from moe2opt.cli import app

    run = CliRunner()
    assert run.invoke(app, ["solve", "tiny", "--out", str(tmp_path)]).exit_code == 0
    path = tmp_path / "config.yaml"
    edited = path.read_text().replace("limit_j_per_prompt: 130", "limit_j_per_prompt: 131")
    path.write_text(edited)
    with pytest.raises(InputError, match="tiny_tables is not a folder"):
        mo.load(path)
    assert run.invoke(app, ["solve", "tiny", "--out", str(tmp_path)]).exit_code == 0
    assert path.read_text() == edited
    assert (tmp_path / "moe2opt.config.yaml").is_file()


def test_what_a_killed_process_left_is_not_read(tmp_path: Path) -> None:
    """Half a file under its unfinished name, as SIGKILL leaves it, does not spoil a folder."""
    from typer.testing import CliRunner

    from moe2opt.cli import app

    run = CliRunner()
    assert run.invoke(app, ["solve", "tiny", "--out", str(tmp_path)]).exit_code == 0
    (tmp_path / ".moe2opt-0123456789ab.json").write_text('{"half": ')
    assert run.invoke(app, ["report", str(tmp_path)]).exit_code == 0


def test_no_text_of_a_table_is_a_formula(tmp_path: Path) -> None:
    """A spreadsheet runs no cell of ours: text that begins like a formula has an apostrophe."""
    import pandas as pd

    cells = ["=1+1", "+a", "-b", "@c", "\td", "-", "a=b", "", None]
    write_frame(tmp_path / "a.csv", pd.DataFrame({"text": cells, "number": range(-3, 6)}))
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[1:]
    shown = [line.rpartition(",")[0] for line in lines]
    assert shown == ["'=1+1", "'+a", "'-b", "'@c", "'\td", "-", "a=b", "", ""]
    assert [line.rpartition(",")[2] for line in lines] == [str(k) for k in range(-3, 6)]
