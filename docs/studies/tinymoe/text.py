"""Texts of several domains that a small model is trained and judged on, with their sources.

Three domains are real: the project's own pages (Apache-2.0), the docstrings and the code of the
Python standard library that runs this (PSF licence). Two are generated: sums, and sentences of a
small grammar. Whole documents (passages of pages, modules of the library) are divided into parts.
"""

from __future__ import annotations

import ast
import hashlib
import random
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from moe2opt.result import InputError

PARTS = ("train", "calibration", "heldout")

_FOLDS = 10

#: Characters of a passage of a page.
_LEAST_PASSAGE = 1000

#: Folders of the standard library that are tests, tables or other people's.
_SKIPPED = {
    *("test", "tests", "idlelib", "lib2to3", "site-packages", "encodings", "pydoc_data"),
    *("dist-packages", "turtledemo", "__phello__", "ensurepip", "__pycache__", "lib-dynload"),
}

SOURCES = {
    "docs": "the project's own pages (Apache-2.0)",
    "docstrings": "docstrings of the Python standard library (PSF licence)",
    "code": "code of the Python standard library without docstrings and comments (PSF licence)",
    "sums": "generated: sums, differences and products",
    "grammar": "generated: sentences of a small grammar",
}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Text by domain and part.

    Attributes
    ----------
    text
        Bytes by ``(domain, part)``.
    """

    text: Mapping[tuple[str, str], bytes]

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains, sorted."""
        return tuple(sorted({domain for domain, _ in self.text}))

    @property
    def sha256(self) -> str:
        """Digest of everything."""
        digest = hashlib.sha256()
        for key in sorted(self.text):
            digest.update(f"{key[0]}/{key[1]}/{len(self.text[key])}\n".encode())
            digest.update(self.text[key])
        return digest.hexdigest()


def build_corpus(
    pages: Path, *, train_bytes: int = 1_000_000, judge_bytes: int = 12_288, seed: int = 0
) -> Corpus:
    """Return the texts of the five domains.

    Parameters
    ----------
    pages
        Folder of Markdown pages.
    train_bytes
        Most bytes of the training part of a domain.
    judge_bytes
        Most bytes of its calibration and of its held-out part; half of that must be there.
    seed
        Seed of the generated texts and of the order of documents.

    Raises
    ------
    InputError
        When a domain has too little text.
    """
    makers: dict[str, Callable[[], Iterable[tuple[str, str]]]] = {
        "docs": lambda: markdown_passages(pages),
        "docstrings": lambda: _from_library(_docstrings),
        "code": lambda: _from_library(_code),
        "sums": lambda: _generated(sums, train_bytes, judge_bytes, seed),
        "grammar": lambda: _generated(sentences, train_bytes, judge_bytes, seed),
    }
    text: dict[tuple[str, str], bytes] = {}
    for domain, make in makers.items():
        for part, content in divided(make(), seed).items():
            limit = train_bytes if part == "train" else judge_bytes
            if part != "train" and len(content) < limit // 2:
                raise InputError(f"text: {domain} has only {len(content)} bytes of {part} text")
            text[domain, part] = content[:limit].decode(errors="ignore").encode()
    return Corpus(text)


def divided(documents: Iterable[tuple[str, str]], seed: int) -> dict[str, bytes]:
    """Return the bytes of each part: about a tenth calibrates, a tenth is held out.

    A document's content alone decides, so that it stays in its part when others change.
    """
    found: dict[str, list[str]] = {part: [] for part in PARTS}
    shuffled = sorted(documents)
    random.Random(seed).shuffle(shuffled)
    for _, content in shuffled:
        fold = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8]) % _FOLDS
        part = {0: "calibration", 1: "heldout"}.get(fold, "train")
        found[part].append(content)
    return {part: "\n\n".join(texts).encode() for part, texts in found.items()}


def markdown_passages(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield passages of all Markdown pages below `folder`: paragraphs, joined to a least length."""
    for path in sorted(folder.rglob("*.md")):
        name, held = path.relative_to(folder).as_posix(), ""
        for k, paragraph in enumerate(path.read_text(encoding="utf-8").split("\n\n")):
            held += paragraph + "\n\n"
            if len(held) >= _LEAST_PASSAGE:
                yield f"{name}#{k:05}", held.strip("\n")
                held = ""
        if held.strip():
            yield f"{name}#end", held.strip("\n")


def _from_library(take: Callable[[ast.Module], str]) -> Iterator[tuple[str, str]]:
    """Yield something of each module of the standard library; nothing of it is run."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if _SKIPPED.intersection(inside.parts):
            continue
        content = take(ast.parse(path.read_bytes()))
        if content:
            yield inside.as_posix(), content


def _docstrings(tree: ast.Module) -> str:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n\n".join(filter(None, (ast.get_docstring(node) for node in nodes)))


def _code(tree: ast.Module) -> str:
    return ast.unparse(_Undocumented().visit(tree))


class _Undocumented(ast.NodeTransformer):
    """Removes strings that stand alone as statements."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop a docstring."""
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Pass()
        return node


def _generated(
    make: Callable[[random.Random], str], train_bytes: int, judge_bytes: int, seed: int
) -> Iterator[tuple[str, str]]:
    """Yield generated documents, enough for all parts."""
    draw = random.Random(f"{make.__name__}/{seed}")
    number = _FOLDS * (2 + max(train_bytes // (_FOLDS - 2), judge_bytes) // 2000)
    for k in range(number):
        lines: list[str] = []
        while sum(map(len, lines)) < 2000:
            lines.append(make(draw))
        yield f"{make.__name__}/{k}", "\n".join(lines)


def sums(draw: random.Random) -> str:
    """Return one line of arithmetic."""
    sign = draw.choice("+-*")
    most = 12 if sign == "*" else 10 ** draw.randint(1, 3)
    a, b = draw.randrange(most), draw.randrange(most)
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    return f"{a} {sign} {b} = {result}"


_NOUNS = ("server", "gate", "cache", "token", "router", "expert", "queue", "disk", "phone", "link")
_ADJECTIVES = ("small", "idle", "busy", "remote", "slow", "warm", "cold", "old", "new", "shared")
_VERBS = ("sends", "reads", "copies", "drops", "moves", "keeps", "loads", "counts", "asks", "finds")
_PLACES = ("in memory", "on the disk", "over the link", "at night", "before noon", "without delay")
_NUMBERS = ("one", "two", "three", "four", "five", "seven", "ten", "twelve")


def sentences(draw: random.Random) -> str:
    """Return one sentence: noun phrase, verb, noun phrase, perhaps a place or a second clause."""

    def phrase() -> str:
        noun = draw.choice(_NOUNS)
        if draw.random() < 0.3:
            number = draw.choice(_NUMBERS)
            return f"{number} {noun}{'' if number == 'one' else 's'}"
        adjective = f"{draw.choice(_ADJECTIVES)} " if draw.random() < 0.6 else ""
        return f"the {adjective}{noun}"

    def clause() -> str:
        place = f" {draw.choice(_PLACES)}" if draw.random() < 0.4 else ""
        subject = f"the {draw.choice(_ADJECTIVES)} {draw.choice(_NOUNS)}"
        return f"{subject} {draw.choice(_VERBS)} {phrase()}{place}"

    second = f", {draw.choice(('and', 'but', 'while'))} {clause()}" if draw.random() < 0.35 else ""
    text = clause() + second + "."
    return text[0].upper() + text[1:]
