"""Fixtures and hypothesis profiles shared by all tests."""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_COMMON = {
    "deadline": None,
    "suppress_health_check": [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
}
settings.register_profile("repeatable", derandomize=True, **_COMMON)
settings.register_profile("explore", print_blob=True, **_COMMON)
settings.load_profile("repeatable")

# A shell that runs the tests in the background may ignore Ctrl-C, and so would every process that
# they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for no examples in tests: that skips a test module whose import fails."""
    return [found for found in (yield) if type(found).__name__ != "DoctestModule"]


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Folder of the source tree."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with third-party data beside the checkout; the test is skipped without it."""
    folder = CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("third-party data are not here: no folder shared/data beside the checkout")
    return folder
