"""What names a version names the same one, and what counts something counts right."""

import re
import tomllib
from pathlib import Path

import pytest

from handgrad.learn import EXERCISES
from handgrad.proof import KIT, MUTATIONS

ROOT = Path(__file__).parents[1]
PAGES = [
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if not {"_build", "course"} & set(path.relative_to(ROOT).parts)
]
COUNTED = {
    r"(\d+) (?:wrong\s+backwards|mutations|mistakes\s+that)": len(MUTATIONS),
    r"(\d+) (?:short\s+)?exercises\b": len(EXERCISES),
    r"(\d+) cases\b": sum(map(len, KIT.values())),
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert re.findall(r"^version: (.+)$", read("CITATION.cff"), flags=re.MULTILINE) == [version]
    (released,) = re.findall(r"^date-released: (.+)$", read("CITATION.cff"), flags=re.MULTILINE)
    assert re.findall(r"^## (.+)$", read("CHANGELOG.md"), flags=re.MULTILINE)[0] == f"{version} - {released}"


@pytest.mark.parametrize("pattern", COUNTED)
def test_pages_count_right(pattern: str) -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), int(count))
        for path in PAGES
        for count in re.findall(pattern, path.read_text(encoding="utf-8"))
    }
    assert found
    assert {(path, count) for path, count in found if count != COUNTED[pattern]} == set()
