"""What is valid, spoilt as what it is.

What is spoilt in its structure gets past the parser, and to the code behind it; random bytes try the parser.
"""

from collections.abc import Callable
from pathlib import Path

from .chance import Chance
from .tensors import spoilt_npz, spoilt_safetensors
from .text import spoilt_bytes, spoilt_json, spoilt_lines, spoilt_toml

BY_SUFFIX: dict[str, Callable[[Chance, bytes], bytes]] = {
    ".json": spoilt_json,
    ".jsonl": spoilt_lines,
    ".toml": spoilt_toml,
    ".safetensors": spoilt_safetensors,
    ".npz": spoilt_npz,
}


def spoilt(chance: Chance, name: str, content: bytes) -> bytes:
    """The content of a file of this name."""
    return BY_SUFFIX.get(Path(name).suffix, spoilt_bytes)(chance, content)
