"""The texts that the small model learns: generated, read from the library, divided."""

from __future__ import annotations

import random
from pathlib import Path

from tinymoe.text import divided, markdown_passages, sentences, sums


def parts_of(documents: list[tuple[str, str]], seed: int = 0) -> dict[str, set[str]]:
    """Return the words of each part."""
    return {part: set(text.decode().split()) for part, text in divided(documents, seed).items()}


def test_documents_are_in_one_part_only() -> None:
    """About eight of ten documents train, one calibrates, one is held out; none is in two parts."""
    found = parts_of([(f"d{k:03}", f"<{k}>") for k in range(1000)])
    assert len(set.union(*found.values())) == sum(map(len, found.values())) == 1000
    assert 760 < len(found["train"]) < 840
    assert min(len(found["calibration"]), len(found["heldout"])) > 70


def test_a_document_stays_in_its_part() -> None:
    """Documents that come, go or are named anew move no other one to another part."""
    documents = [(f"d{k:03}", f"<{k}>") for k in range(300)]
    whole, less = parts_of(documents), parts_of([(n + "x", t) for n, t in documents[::2]], seed=1)
    for part, texts in less.items():
        assert texts <= whole[part]


def test_sums_are_right() -> None:
    """Every generated line of arithmetic holds."""
    draw = random.Random(0)
    for _ in range(200):
        a, sign, b, _, result = sums(draw).split()
        expected = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
        assert int(result) == expected


def test_sentences_end_with_a_stop_and_repeat_by_seed() -> None:
    """Sentences are whole and the same for the same seed."""
    first, second = ([sentences(random.Random(s)) for s in range(20)] for _ in range(2))
    assert first == second
    assert all(text.endswith(".") and text[0].isupper() for text in first)


def test_passages_hold_the_whole_page(tmp_path: Path) -> None:
    """Passages of a page are long enough and together are the page."""
    page = "\n\n".join("word " * 50 for _ in range(20))
    (tmp_path / "a.md").write_text(page, encoding="utf-8")
    passages = [text for _, text in markdown_passages(tmp_path)]
    assert "\n\n".join(passages).split() == page.split()
    assert all(len(text) >= 900 for text in passages[:-1])
