"""Shared fixtures: a headless Chromium for the pages that Leadline writes, and the folder with real data."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Headless Chromium. Without it the test is skipped with the reason, or fails where LEADLINE_REQUIRE_BROWSER=1."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        reason = "no chromium with chromedriver on PATH (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("LEADLINE_REQUIRE_BROWSER") == "1":
            pytest.fail(f"LEADLINE_REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)
    options = Options()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(executable_path=chromedriver))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data sets that LEADLINE_DATA names; without it the test is skipped with the reason."""
    folder = os.environ.get("LEADLINE_DATA")
    if not folder:
        pytest.skip("LEADLINE_DATA is not set: it names the folder with mnist/ and other real data")
    return Path(folder)
