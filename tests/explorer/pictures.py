"""The pictures of README and docs: `python3 -m tests.explorer.pictures RUN FOLDER`, with a run of `handgrad train`."""

import io
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image

from handgrad.explorer import Explorer, shelf_of, write_page
from handgrad.model import load

from .conftest import CHROMIUM, served
from .test_page import settle, until

TEXT = "The class statement defines a class."
OF_THE_WEIGHTS = "node=blocks.1.attention.weights&head=1&open=1"


class Picture(NamedTuple):
    view: str
    ready: str
    """What must be on the page by then, as a selector."""
    height: int = 860
    width: int = 1320
    scheme: str = "light"
    prepare: str = ""
    """What is done in the page before."""


PICTURES = {
    "explorer": Picture(OF_THE_WEIGHTS, ".heat canvas"),
    "explorer-softmax": Picture(
        OF_THE_WEIGHTS, ".softmax", prepare="document.querySelector('.softmax').scrollIntoView()"
    ),
    "explorer-code": Picture("node=blocks.1.norm_1.gamma&panel=sheet&open=1", ".marked", scheme="dark"),
    "explorer-nudge": Picture("node=blocks.1.attention.q&panel=nudge&open=1", ".chart"),
    "explorer-flow": Picture(
        "panel=flow&layers=24&open=1",
        ".series.flow-init",
        prepare="document.querySelectorAll('.toggles input:not(:checked)').forEach(box => box.click())",
    ),
    "explorer-break": Picture("panel=mutants&mutation=layer_norm_without_the_mean_route&open=3", "[data-verdict]"),
    "explorer-training": Picture("panel=training&open=1&checkpoint=300", ".chart"),
    "explorer-phone": Picture(OF_THE_WEIGHTS, ".heat canvas", width=390, height=844, scheme="dark"),
}


def take(browser: Any, address: str, picture: Picture, path: Path) -> list[str]:
    """Write a picture; returns what the page complained of."""
    complaints: list[str] = []
    size = {"width": picture.width, "height": picture.height}
    context = browser.new_context(viewport=size, color_scheme=picture.scheme, device_scale_factor=1.25)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{address}#text={quote(TEXT)}&{picture.view}")
    page.wait_for_selector("body[data-ready]")
    settle(page)
    if picture.prepare:
        page.evaluate(picture.prepare)
    until(page, f"document.querySelector('{picture.ready}')", seconds=60)
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)  # what is drawn when there is time for it
    Image.open(io.BytesIO(page.screenshot())).save(path, lossless=True, method=6)
    context.close()
    return complaints


def alike(live: Path, alone: Path) -> None:
    """The page in one file shows the same map and the same pictures as the live one."""
    one, other = (np.asarray(Image.open(path).convert("RGB"), float)[300:] for path in (live, alone))
    different = float((np.abs(one - other).max(axis=-1) > 40).mean())
    print(f"one file: {100 * different:.2f} % of it looks different")
    if different > 0.005:
        sys.exit("the page in one file looks different")


def main(run: str, folder: str) -> None:
    from playwright.sync_api import sync_playwright

    chromium = next(found for name in CHROMIUM if (found := shutil.which(name)))
    Path(folder).mkdir(parents=True, exist_ok=True)
    explorer = Explorer(shelf_of(Path(run), load(run)), TEXT)
    with served(explorer) as address, sync_playwright() as driver, TemporaryDirectory() as place:
        page = Path(place, "page.html")
        write_page(explorer, page)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        taken = [(name, picture, address, Path(folder, f"{name}.webp")) for name, picture in PICTURES.items()]
        taken.append(("one file", PICTURES["explorer"], page.as_uri(), Path(place, "page.webp")))
        for name, picture, where, path in taken:
            if complaints := take(browser, where, picture, path):
                sys.exit(f"{name}: {complaints}")
            print(f"{path.name}: {path.stat().st_size / 1000:,.0f} kB")
        alike(Path(folder, "explorer.webp"), Path(place, "page.webp"))


if __name__ == "__main__":
    main(*sys.argv[1:])
