"""Text, spoilt: trees of JSON, lines of JSON and of TOML; and bytes."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from .chance import TEXTS, Chance


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


# fmt: off
LITERALS = [
    "", "true", "nan", "-inf", "1e400", "9" * 5000, "0x", "0x" + "f" * 5000, "1979-05-27", "07:32:00", "'''", '"""',
    "-1", nested(40), nested(3000), "{a=" * 2000, "{ name = 1 }", '{ name = "x", transposed = 1 }', '"\\u0000"',
    "[1, 'a']",
]
# fmt: on
"""What may stand behind the = of a line of TOML."""
INSERTED = [b"\x00", b"\xff" * 8, b"\n", b'"', b"[" * 2000, b"9" * 5000]


def spoilt_json(chance: Chance, valid: bytes) -> bytes:
    return spoilt_bytes(chance, valid) if chance.one_in(5) else as_json(chance, spoilt_tree(chance, _parsed(valid)))


def spoilt_tree(chance: Chance, valid: Any) -> Any:
    """The tree with one to three places of it changed, removed, renamed, exchanged or put one within the other."""
    tree = copy.deepcopy(valid)
    for _ in range(1 + chance.below(3)):
        places = list(_places(tree))
        if not places:
            return chance.value()
        holder, key = chance.of(places)
        match chance.below(8):
            case 0 | 1 | 2:
                holder[key] = chance.value()
            case 3:
                holder[key] = _moved(holder[key], chance.of([-1, 1, 2, 1000]))
            case 4:
                del holder[key]
            case 5:
                other, there = chance.of(places)
                holder[key] = copy.deepcopy(other[there])
            case 6:
                holder[key] = [holder[key]] if chance.below(2) else {str(key): holder[key]}
            case _ if isinstance(holder, dict):
                holder[chance.of([*TEXTS, str(chance.of(places)[1])])] = holder.pop(key)
            case _:
                holder.insert(key, copy.deepcopy(holder[key]))
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of a tree: what holds it, and under which key or number."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def _moved(value: Any, by: int) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + by if by < 1000 else value * by
    return value * 2 if isinstance(value, str) else value


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # not JSON, or not any more
        return content.decode(errors="replace")


def as_json(chance: Chance, tree: Any) -> bytes:
    """A tree as JSON, its characters escaped or not: then half a surrogate is not UTF-8."""
    return json.dumps(tree, ensure_ascii=chance.below(2) == 0).encode("utf-8", "surrogatepass")


# bytes and lines


def spoilt_bytes(chance: Chance, valid: bytes) -> bytes:
    """A few places overwritten, cut out, doubled or cut off; or random bytes, after some that are right."""
    content = bytearray(valid)
    if chance.one_in(6):
        return bytes(content[: chance.below(17)]) + chance.bytes(200)
    for _ in range(1 + chance.below(3)):
        start = chance.below(max(1, len(content)))
        stop = start + chance.of([1, 2, 8, 100])
        match chance.below(6):
            case 0 if content:
                content[start] ^= 1 << chance.below(8)
            case 1:
                content[start:stop] = chance.bytes(9)
            case 2:
                del content[start:stop]
            case 3:
                content[start:start] = content[start:stop]
            case 4:
                del content[start:]
            case _:
                content[start:start] = chance.of(INSERTED)
    return bytes(content)


def spoilt_lines(chance: Chance, valid: bytes) -> bytes:
    """Lines of JSON, of which some are spoilt."""
    lines = valid.splitlines()
    for _ in range(1 + chance.below(3)):
        at = chance.below(len(lines))
        lines[at] = spoilt_json(chance, lines[at])
    return b"\n".join(lines) + (b"" if chance.one_in(3) else b"\n")


def spoilt_toml(chance: Chance, valid: bytes) -> bytes:
    """Lines of `key = value`, of which some get another value, another key, or are doubled."""
    if chance.one_in(5):
        return spoilt_bytes(chance, valid)
    lines = valid.decode().splitlines()
    for _ in range(1 + chance.below(3)):
        at = chance.below(len(lines))
        key, _, value = lines[at].partition("=")
        other, _, others = chance.of(lines).partition("=")
        match chance.below(6):
            case 0 | 1:
                lines[at] = f"{key}= {chance.of(LITERALS)}"
            case 2:
                lines[at] = f"{key}= {json.dumps(chance.value())}"
            case 3:
                lines[at] = f"{key}={others}"
            case 4:
                lines[at] = f"{chance.of([*map(json.dumps, TEXTS), 'a.b', other])} ={value}"
            case _:
                lines.insert(at, lines[at])
    return "\n".join(lines).encode("utf-8", "surrogatepass")
