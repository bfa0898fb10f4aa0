"""The shapes in signatures are enforced wherever there are any."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_module_with_shapes_in_its_signatures_is_enforced() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    (option,) = (word for word in options["addopts"] if word.startswith("--jaxtyping-packages="))
    enforced = option.removeprefix("--jaxtyping-packages=").split(",")[:-1]
    for path in (ROOT / "src").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if "from jaxtyping import" in path.read_text(encoding="utf-8"):
            assert any(module == name or module.startswith(f"{name}.") for name in enforced), module
