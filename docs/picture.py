"""Take the README's picture: the first screen of a report, in headless Chromium.

make demo && .venv/bin/python docs/picture.py runs/digits69-report.html docs/images/demo-report.png
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--anchor", help="id of the section to begin at")
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver_path is None:
        parser.error("chromium and chromedriver are needed (Debian: apt-get install chromium chromium-driver)")
    chrome = Options()
    chrome.binary_location = chromium
    with tempfile.TemporaryDirectory() as profile:
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
                 "--disable-background-networking", "--no-first-run")  # fmt: skip
        for flag in flags:
            chrome.add_argument(flag)
        driver = webdriver.Chrome(options=chrome, service=Service(executable_path=driver_path))
        size = {"width": options.width, "height": options.height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        if options.dark:
            scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        anchor = f"#{options.anchor}" if options.anchor else ""
        driver.get(options.page.resolve().as_uri() + anchor)
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(options.picture))
        driver.quit()


if __name__ == "__main__":
    main()
