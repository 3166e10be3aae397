"""Large certificates on disk: arrays beside the JSON file, and multipliers that spill."""

from __future__ import annotations

import dataclasses
import io
import json
import mmap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt import archive, proof
from moe2opt.result import Certificate, InputError, Result
from moe2opt.solvers import tree as split_tree
from moe2opt.solvers.tree import SplitTree


@pytest.fixture
def problem() -> mo.FacilityProblem:
    """Return an unstructured problem whose proof needs some tens of leaves."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 100, (30, 18)).astype(float)
    return mo.FacilityProblem(values, rng.integers(1, 30, (2, 18)).astype(float), [90.0, 90.0])


@pytest.fixture
def result(problem: mo.FacilityProblem, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Return its result, where every certificate counts as large."""
    monkeypatch.setattr(proof, "LARGEST_IN_JSON", (0, 0))
    return mo.solve(problem, "brb")


@pytest.fixture
def saved(result: Result, tmp_path: Path) -> Path:
    """Return the path of the saved result."""
    result.save(tmp_path / "result.json")
    return tmp_path / "result.json"


def same(one: Certificate | None, other: Certificate | None) -> bool:
    """Tell whether two certificates have equal content."""
    assert one is not None
    assert other is not None
    return one.to_dict() == other.to_dict() and other.content_digest() == one.digest


def test_large_certificates_get_a_file(result: Result, saved: Path) -> None:
    """Tree and multipliers go to `certificate.npz`, and come back unchanged."""
    assert {path.name for path in saved.parent.iterdir()} == {"result.json", "certificate.npz"}
    content = json.loads(saved.read_text(encoding="utf-8"))["certificate"]
    assert content["tree"] == content["multipliers"] == []
    assert same(result.certificate, Result.load(saved).certificate)


def test_small_certificates_stay_in_json(problem: mo.FacilityProblem, tmp_path: Path) -> None:
    """A small certificate needs no second file."""
    mo.solve(problem, "brb").save(tmp_path / "result.json")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_results_share_a_folder(result: Result, tmp_path: Path) -> None:
    """Results of other names keep their arrays apart."""
    for name in ("a.json", "b.json"):
        result.save(tmp_path / name)
    names = {"a.json", "a.certificate.npz", "b.json", "b.certificate.npz"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_loaded_results_are_verified(problem: mo.FacilityProblem, saved: Path) -> None:
    """The checker accepts what was loaded from two files."""
    verdict = mo.certify(problem, Result.load(saved))
    assert (verdict.ok, verdict.kind) == (True, "checked")


def test_certificates_on_their_own(result: Result, tmp_path: Path) -> None:
    """`Certificate.save` and `load` undo each other, large or small."""
    assert result.certificate is not None
    result.certificate.save(tmp_path / "proof.json")
    assert (tmp_path / "proof.certificate.npz").exists()
    assert same(result.certificate, Certificate.load(tmp_path / "proof.json"))


def test_broken_certificate_files_are_told(tmp_path: Path) -> None:
    """A file that is absent, no JSON or no certificate raises InputError with its name."""
    for text, message in ((None, "No such file"), ("{", "not JSON"), ("[]", "not a certificate")):
        path = tmp_path / "proof.json"
        if text is not None:
            path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            Certificate.load(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"file": "../certificate.npz"},
        {"file": "/certificate.npz"},
        {"file": "..\\certificate.npz"},
        {"file": "certificate.zip"},
        {"file": 3},
        {"file": "absent.npz"},
        {"sha256": "0" * 64},
        {"sha256": None},
        None,
    ],
    ids=str,
)
def test_other_files_are_refused(saved: Path, arrays: Any) -> None:
    """Arrays are read from the result's own folder only, and only if they are unchanged."""
    content = json.loads(saved.read_text(encoding="utf-8"))
    known = content["certificate"]["arrays"]
    content["certificate"]["arrays"] = None if arrays is None else {**known, **arrays}
    saved.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"result\.json: certificate"):
        Result.load(saved)


def test_links_out_of_the_folder_are_refused(saved: Path, tmp_path_factory: Any) -> None:
    """A link to a file elsewhere is not followed."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "certificate.npz"
    (saved.parent / "certificate.npz").rename(elsewhere)
    try:
        (saved.parent / "certificate.npz").symlink_to(elsewhere)
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(InputError, match="outside"):
        Result.load(saved)


def test_changed_arrays_are_refused(saved: Path) -> None:
    """One changed byte of the archive is noticed."""
    path = saved.parent / "certificate.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="changed"):
        Result.load(saved)


def arrays_of(path: Path) -> dict[str, Any]:
    """Return the arrays of an archive."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "missing array": lambda a: a.pop("tree"),
    "tree of floats": lambda a: a.update(tree=a["tree"].astype(float)),
    "flat tree": lambda a: a.update(tree=a["tree"].ravel()),
    "unknown kind": lambda a: a["tree"].__setitem__((0, 0), 99),
    "negative kind": lambda a: a["tree"].__setitem__((0, 0), -1),
    "too few numbers": lambda a: a.update(vectors=a["vectors"][:-1]),
    "negative length": lambda a: a["lengths"].__setitem__((0, 0), -1),
    "wide numbers": lambda a: a.update(vectors=a["vectors"].astype(np.float32)),
    "pickled kinds": lambda a: a.update(kinds=a["kinds"].astype(object)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_odd_arrays_are_refused(saved: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Arrays that do not fit together, or hold objects, are refused before anything is built."""
    path = saved.parent / "certificate.npz"
    arrays = arrays_of(path)
    change(arrays)
    np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match=r"archive|kind|lengths|allow_pickle"):
        archive.read_arrays(path)


def test_huge_archives_are_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that would unpack to too much is refused before it is unpacked."""
    monkeypatch.setattr(archive, "MOST_BYTES", 100)
    with pytest.raises(InputError, match=r"unpacks to [0-9,]+ bytes; at most 100"):
        Result.load(saved)


def test_archives_are_ordinary(saved: Path) -> None:
    """The file is a ZIP archive of NPY arrays that numpy reads without pickle."""
    path = saved.parent / "certificate.npz"
    assert zipfile.is_zipfile(io.BytesIO(path.read_bytes()))
    assert set(arrays_of(path)) == {"kinds", "tree", "lengths", "vectors"}


# ---------------------------------------------------------------------- while solving


def test_unused_multipliers_are_dropped() -> None:
    """A tree stores the multipliers that a leaf refers to, and no others."""
    tree = SplitTree()
    numbers = [tree.price(np.full(3, k), np.zeros(1), np.zeros(0)) for k in range(5)]
    left, right = tree.split(0, 0, 0)
    tree.prune(left, ("dual", numbers[3]))
    tree.prune(right, ("farkas", numbers[1]))
    assert sorted(tree.multipliers) == [1, 3]
    found = tree.certificate(mo.FacilityProblem([[1.0]], [[1.0]], [1.0]), 1.0)
    assert [m.cluster[0] for m in found.multipliers] == [1.0, 3.0]
    assert found.tree == (("split", 0, 0), ("dual", 1, 0), ("farkas", 0, 0))


def test_spilled_multipliers_are_the_same(
    problem: mo.FacilityProblem, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Multipliers kept in a temporary file give the same certificate."""
    monkeypatch.setattr(split_tree, "MOST_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(split_tree, "BLOCK_BYTES", 1024)
    sizes = []
    mapped = mmap.mmap
    monkeypatch.setattr(
        mmap, "mmap", lambda file, size, **kw: sizes.append(size) or mapped(file, size, **kw)
    )
    again = mo.solve(problem, "brb")
    assert sizes
    assert same(result.certificate, again.certificate)
    assert mo.certify(problem, dataclasses.replace(again, log=())).ok
