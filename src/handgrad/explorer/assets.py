"""The page: plain files of HTML, CSS and ES modules, as a server sends them, or all in one file.

The modules import each other as `handgrad/NAME.js`. An import map says what these names mean: beside a server the files
next to the page, in a single file the modules themselves, as data URLs.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from ..layers import Array

PAGE, STYLE, MAIN = "index.html", "style.css", "main.js"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
IMPORTS, HEAD, DATA = "<!-- imports -->", "<!-- head -->", "<!-- data -->"
"""What stands in the page for what differs between the two forms."""


class Asset(NamedTuple):
    content: bytes
    media_type: str


@cache
def sources() -> dict[str, str]:
    """The text of every file of the page, by its name."""
    folder = files(__package__) / "page"
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if _ending(file.name) in TYPES}


def served() -> dict[str, Asset]:
    """What a server sends, by its name; the empty name is the page."""
    found = {name: Asset(text.encode(), TYPES[_ending(name)]) for name, text in sources().items()}
    head = f'<link rel="stylesheet" href="{STYLE}">\n<script type="module" src="{MAIN}"></script>'
    page = _page({IMPORTS: f'<script type="importmap">{_import_map()}</script>', HEAD: head, DATA: ""})
    del found[PAGE]
    return {"": Asset(page.encode(), TYPES[".html"]), **found}


def import_map_hash() -> str:
    """What a policy of content names the import map by, which is the one script in the page itself."""
    return base64.b64encode(hashlib.sha256(_import_map().encode()).digest()).decode()


def in_one_file(answers: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """The page with all that it shows in it, tensors in float32. Its own policy forbids it any connection."""
    modules = {
        f"handgrad/{name}": f"data:text/javascript;base64,{_base64(text.encode())}"
        for name, text in sources().items()
        if _ending(name) == ".js"
    }
    policy = "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; img-src data:; "
    policy += "base-uri 'none'; form-action 'none'"
    data = [f'<script type="application/json" id="answers">{_in_html(answers)}</script>']
    for key, x in tensors.items():
        shape, content = json.dumps(x.shape), _base64(x.astype("<f4").tobytes())
        data.append(f'<script type="text/plain" data-tensor="{key}" data-shape="{shape}">{content}</script>')
    return _page(
        {
            IMPORTS: f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f'<script type="importmap">{_in_html({"imports": modules})}</script>',
            HEAD: f'<style>\n{sources()[STYLE]}</style>\n<script type="module">import "handgrad/{MAIN}"</script>',
            DATA: "\n".join(data),
        }
    )


def _import_map() -> str:
    return json.dumps({"imports": {"handgrad/": "./"}})


def _page(parts: Mapping[str, str]) -> str:
    page = sources()[PAGE]
    for place, text in parts.items():
        page = page.replace(place, text)
    return page


def _in_html(value: Any) -> str:
    """JSON that may stand in a script element: no text in it ends the element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _ending(name: str) -> str:
    return name[name.rfind(".") :]
