"""A small model with nothing left at 0 or 1, its explorer, the explorer's server, and a browser where there is one."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from handgrad.explorer import Explorer, Shelf
from handgrad.explorer.server import address_of, listen, new_token, server_of
from handgrad.model import Model, ModelConfig, Parameters, Tokenizer
from handgrad.proof.making import FAMILIES, Maker, Sizes

TEXT = "Hello, world"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def model_of(family: str = "default", **fields: Any) -> Model:
    """Two blocks that read bytes, with random parameters."""
    sizes: dict[str, Any] = {"layers": 2, "heads": 2, "width": 16, "hidden": 24, "context": 32, "vocabulary": 256}
    config = ModelConfig(**sizes | FAMILIES[family] | fields)
    maker = Maker(np.random.default_rng(0), Sizes(1, 32, 16, 2, 24, 256))
    return Model(config, Parameters.from_mapping(config, maker.parameters(config)), Tokenizer.of_bytes())


def explorer_of(model: Model, text: str | None = TEXT) -> Explorer:
    return Explorer(Shelf("a small model", model), text)


@contextmanager
def served(explorer: Explorer) -> Iterator[str]:
    """The address of the explorer's page, while it is served."""
    listener, token = listen(0), new_token()
    server = server_of(explorer, listener, token)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address_of(listener, token)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    return explorer_of(model_of())


@pytest.fixture(scope="module")
def address(explorer: Explorer) -> Iterator[str]:
    with served(explorer) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; a test that wants it is skipped where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright; --group browser installs it")
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on the path")
    with playwright.sync_playwright() as driver:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = driver.chromium.launch(executable_path=path, args=quiet)
        yield chromium
        chromium.close()
