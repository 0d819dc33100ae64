"""Shared set-up of the Python tests.

Random tests are deterministic by default, so that a red run stays red. For new random
examples: ``PANNIER_TEST_RANDOM=1``, and ``PANNIER_TEST_ROUNDS`` for how many. A failing
example is shown as found; ``PANNIER_TEST_SHRINK=1`` looks for a smaller one (minutes).
"""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

try:
    from hypothesis import HealthCheck, Phase, settings
except ImportError:  # a run of the few tests that need no hypothesis
    settings = None  # type: ignore[assignment,misc]

if settings is not None:
    _random = bool(os.environ.get("PANNIER_TEST_RANDOM"))
    settings.register_profile(
        "pannier",
        deadline=None,
        derandomize=not _random,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate] + ([Phase.shrink] if os.environ.get("PANNIER_TEST_SHRINK") else []),
    )
    settings.load_profile("pannier")


def pytest_report_header() -> str:
    return f"implementation under test: {os.environ.get('PANNIER_TEST_IMPL', 'pannier')}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fix: a documented difference from LlamaIndex, which the stand-in does not have")


def pytest_collection_modifyitems(config: pytest.Config, items: list) -> None:
    if os.environ.get("PANNIER_TEST_IMPL") != "peer":
        return
    skip = pytest.mark.skip(reason="LlamaIndex itself does not do this: see docs/differences.md")
    for item in items:
        if item.get_closest_marker("fix"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def peer():
    import oracle

    return oracle.peer


@pytest.fixture(scope="session")
def impl():
    import oracle

    return oracle.impl
