"""Options that would change nothing are refused, in one line that says which and why."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import HandgradError


def refuse(options: Mapping[str, Any], why: str) -> None:
    """None of these options may be given: the first that was is named."""
    if given := [name for name, value in options.items() if value is not None]:
        raise HandgradError(f"{given[0]}: {why}")


def refuse_seed(seed: int | None, run: Path) -> None:
    """That of fresh weights, beside a model that has its own."""
    refuse({"--seed": seed}, f"the weights of {run} are there; leave it out, or give --preset")
