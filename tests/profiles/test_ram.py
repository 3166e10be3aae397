"""RAM by kind, and the published hosts behind its constants."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe2opt.errors import InputError
from moe2opt.profiles import ram


@pytest.mark.parametrize(
    ("kind", "peak"), [("ddr5-6000", 96.0), ("DDR4-3200x8", 204.8), ("lpddr5x-8000x4", 256.0)]
)
def test_a_kind_has_a_peak(kind: str, peak: float) -> None:
    """Transfers times 8 bytes times channels, two of them where none are said."""
    assert ram.peak_gb_per_s(kind) == peak


@pytest.mark.parametrize("kind", ["ddr6", "ddr5", "6000", "ddr5-6000x0", "ddr5-0", ""])
def test_what_is_no_kind_is_named(kind: str) -> None:
    """A kind that cannot be read is refused with two that can."""
    with pytest.raises(InputError, match=r"no kind of RAM such as ddr5-6000"):
        ram.peak_gb_per_s(kind)


def test_a_measured_rate_counts_more_than_a_kind() -> None:
    """A rate that was measured is believed nearly whole, a peak by less than half."""
    assert ram.ram_rate("ddr5-5600", 60).bytes_per_s == ram.ram_rate(None, 60).bytes_per_s
    assert ram.ram_rate(None, 60).bytes_per_s > ram.ram_rate("ddr5-5600").bytes_per_s
    assert "assumption" in ram.ram_rate().words


def test_constants_are_those_of_the_published_hosts(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Share and spread follow from the table, and nine in ten sources left out are inside."""
    monkeypatch.syspath_prepend(str(checkout / "docs" / "studies"))
    import offload_hosts

    assert offload_hosts.share_of_peak(offload_hosts.hosts()) == pytest.approx(
        ram.SHARE_OF_PEAK, abs=0.01
    )
    misses = offload_hosts.left_out()
    assert len(misses) >= 12
    assert 1.5 < offload_hosts.spread_of(misses) <= ram.SPREAD


def test_the_page_tells_published_speeds(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine in ten published rates of decoding are inside; the page says how prompts fare."""
    monkeypatch.syspath_prepend(str(checkout / "docs" / "studies"))
    import offload_hosts

    text = (checkout / "docs" / "reference" / "devices" / "ram.md").read_text(encoding="utf-8")
    table = offload_hosts.speeds()
    assert table in text
    rows = offload_hosts.published()
    inside = [abs(miss) <= width for miss, width in map(offload_hosts.interval, rows)]
    assert len(rows) == 35
    assert sum(inside) >= 0.85 * len(rows)
