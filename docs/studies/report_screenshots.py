"""Make the report of the main job and take the pictures of docs/guides/report.md.

Usage, from the checkout, with chromium, chromedriver and selenium installed::

    python docs/studies/report_screenshots.py [DIR]

solves ``mmlu_pro_edge``, computes its grid of 20 × 20 budgets, writes the page into DIR (default: a
temporary folder) and ``report_explorer.png`` and ``report_phone.png`` into ``docs/guides``. A DIR
that holds results already is used as it is.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

GUIDES = Path(__file__).resolve().parents[1] / "guides"

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars"),
)

#: Width, height and scheme of each picture, and the element it begins with.
PICTURES = {
    "report_explorer.png": (960, 760, "light", "explorer"),
    "report_phone.png": (360, 760, "dark", "explorer"),
}

COLOURS = 64


def made(folder: Path) -> Path:
    """Return the page of a folder; solve the main job there first if it is empty."""
    run = [sys.executable, "-c", "from moe2opt.cli import main; main()"]
    if not (folder / "result.json").is_file():
        subprocess.run([*run, "solve", "mmlu_pro_edge", "--out", str(folder)], check=True)
    grid = [] if (folder / "grid.json").is_file() else ["--grid"]
    subprocess.run([*run, "report", str(folder), *grid], check=True)
    return folder / "report.html"


def browser(profile: str) -> Any:
    """Return a headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


def take(window: Any, page: Path, name: str) -> None:
    """Write one picture, with few colours so that it stays small."""
    width, height, scheme, start = PICTURES[name]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    window.get(page.resolve().as_uri())
    window.execute_script(f"document.getElementById('{start}').scrollIntoView()")
    window.execute_script("return new Promise(done => setTimeout(done, 300))")
    picture = Image.open(io.BytesIO(window.get_screenshot_as_png())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(GUIDES / name, optimize=True)
    print(f"docs/guides/{name} written, {(GUIDES / name).stat().st_size // 1000} kB")


def main(arguments: list[str]) -> None:
    """Write both pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments[0]) if arguments else Path(temporary) / "results"
        page = made(folder)
        window = browser(temporary)
        try:
            for name in PICTURES:
                take(window, page, name)
        finally:
            window.quit()


if __name__ == "__main__":
    main(sys.argv[1:])
