"""The page's files: as a server sends them, and in one file that asks nobody."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from handgrad.explorer.assets import import_map_hash, in_one_file, served, sources

NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1998/Math/MathML", "http://www.w3.org/1999/xhtml"}
MODULES = [name for name in sources() if name.endswith(".js")]
NASTY = "</script><script>alert(1)</script><!-- <!-- data --> <!-- head --> ]]> \u2028 \\u003c &lt; 'quo\"te' \0 é数"


class Scripts(HTMLParser):
    """The script elements as a browser finds them: their attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.others: list[tuple[str, dict[str, str | None]]] = []
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.others.append((tag, dict(attrs)))
        if tag == "script":
            self._open = True
            self.found.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            attributes, text = self.found[-1]
            self.found[-1] = attributes, text + data


def test_the_page_is_there_under_the_empty_name_and_its_files_under_theirs() -> None:
    assets = served()
    assert {*assets} == {"", "style.css", *MODULES}
    assert len(MODULES) > 10
    assert (assets[""].media_type, assets["style.css"].media_type) == (
        "text/html; charset=utf-8",
        "text/css; charset=utf-8",
    )
    for name in MODULES:
        assert assets[name].media_type == "text/javascript; charset=utf-8"
        assert assets[name].content.decode() == sources()[name]
    assert b"<!--" not in assets[""].content


def test_the_one_script_in_the_page_is_the_import_map_that_the_policy_names() -> None:
    scripts = Scripts(served()[""].content.decode()).found
    assert [(attributes.get("type"), attributes.get("src")) for attributes, _ in scripts] == [
        ("importmap", None),
        ("module", "main.js"),
    ]
    assert base64.b64decode(import_map_hash()) == hashlib.sha256(scripts[0][1].encode()).digest()
    assert json.loads(scripts[0][1]) == {"imports": {"handgrad/": "./"}}
    assert scripts[1][1] == ""


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_modules_of_the_page_alone(name: str) -> None:
    imported = re.findall(r"^(?:import|\} from)\b.*?\"([^\"]+)\"", sources()[name], flags=re.MULTILINE)
    assert all(each.removeprefix("handgrad/") in MODULES and each.startswith("handgrad/") for each in imported)
    assert "eval(" not in sources()[name]
    assert "innerHTML" not in sources()[name]


def test_nothing_in_the_page_names_another_machine() -> None:
    for name, text in sources().items():
        assert {*re.findall(r"https?://[^\s\"'`<>)]*", text)} <= NAMESPACES, name
        assert not re.search(r"[\"'(]//\w", text), name


def test_in_one_file_the_modules_are_data() -> None:
    scripts = Scripts(in_one_file({}, {})).found
    modules = json.loads(scripts[0][1])["imports"]
    assert {*modules} == {f"handgrad/{name}" for name in MODULES}
    for name in MODULES:
        head, _, content = modules[f"handgrad/{name}"].partition(",")
        assert head == "data:text/javascript;base64"
        assert base64.b64decode(content).decode() == sources()[name]
    assert scripts[1] == ({"type": "module"}, 'import "handgrad/main.js"')
    assert all("src" not in attributes for attributes, _ in scripts)
    assert sources()["style.css"] in in_one_file({}, {})


def test_a_file_s_own_policy_forbids_it_to_ask() -> None:
    page = Scripts(in_one_file({}, {}))
    metas = [attributes for tag, attributes in page.others if tag == "meta" and "http-equiv" in attributes]
    assert len(metas) == 1
    policy = dict(part.strip().partition(" ")[::2] for part in str(metas[0]["content"]).split(";"))
    assert policy["default-src"] == "'none'"
    assert "connect-src" not in policy
    assert not re.search(r"http|\*|self", str(metas[0]["content"]))
    tags = [tag for tag, _ in page.others]
    assert tags.index("meta") < tags.index("script")
    assert tags.index("script") > next(
        n for n, (_, attributes) in enumerate(page.others) if attributes.get("http-equiv") == "Content-Security-Policy"
    )


def test_texts_and_tensors_come_out_as_they_went_in() -> None:
    generator = np.random.default_rng(0)
    answers = {"text": NASTY, "pass": {"title": NASTY}, "n": [1, 2.5, None, True]}
    tensors = {
        "activations/a.matrix": generator.standard_normal((3, 4)),
        "cotangents/turned": generator.standard_normal((4, 3)).T,
        "activations/loss": np.array(2.5),
        "activations/hidden": np.array([[0.0, -np.inf], [1e-40, np.nan]]),
    }
    scripts = Scripts(in_one_file(answers, tensors)).found
    assert len(scripts) == 3 + len(tensors)  # no text has made a script of its own
    found = {
        attributes["data-tensor"]: (attributes, text) for attributes, text in scripts if "data-tensor" in attributes
    }
    assert [*found] == [*tensors]
    for key, x in tensors.items():
        attributes, text = found[key]
        shape = json.loads(str(attributes["data-shape"]))
        assert (attributes["type"], shape) == ("text/plain", [*x.shape])
        again = np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)
        np.testing.assert_array_equal(again, x.astype(np.float32))
    (told,) = [text for attributes, text in scripts if attributes.get("id") == "answers"]
    assert json.loads(told) == answers
    assert "<" not in told


def test_what_json_has_not_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        in_one_file({"loss": float("nan")}, {})
