"""What all tests share: quiet libraries, and no silent skipping where a skip would hide something."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

# Two cores: several test processes or libraries with a thread pool each only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1 and hasattr(os, "sched_setaffinity"):
    # A processor for each of them: what takes "one process a processor" starts none beside the tests' own, each of
    # which would import torch anew. Tests of several processes ask for them.
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[int(os.environ["PYTEST_XDIST_WORKER"][2:]) % len(processors)]})
# Threads that wait by spinning make small networks ten times slower as soon as somebody else uses a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Weights are never fetched in a test; asked for, they fail at once instead of after a minute of trying.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Several files at a time where all usual tests are asked for; otherwise, and for what is started by hand or shall
    print, this process alone."""
    usual = config.getini("addopts")[-1]
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and config.option.markexpr == usual
    if whole and config.option.capture != "no":
        return min(4, os.cpu_count() or 1)
    config.option.dist = "no"
    return 0


LONGEST = (
    "test_notebooks",
    "test_report",
    "test_explorer_live",
    "test_archive_identity",
    "test_open_vocabulary",
    "test_readme",
    "test_stopping",
    "test_audit_counts",
)
"""Files of few tests that take long: begun last, one worker would end alone with them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others in their order."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session")
def external_data() -> Path:
    """The folder with real MR files, or a skip where the machine has none."""
    named = os.environ.get("CIRRNB_EXTERNAL_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("CIRRNB_EXTERNAL_DATA names no folder with real files")
    return Path(named)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CIRRNB_NO_SKIPS set, a test on real files or in the browser that was skipped has failed."""
    report = yield
    needed = [name for name in ("real", "browser") if item.get_closest_marker(name)]
    if report.skipped and needed and os.environ.get("CIRRNB_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though CIRRNB_NO_SKIPS is set: marked {needed}: {report.longrepr}"
    return report
