"""`{constants} handgrad.proof`: what of a package's public names is neither function nor class, with its docstring.

A public name that no page of the reference has fails the build.
"""

import inspect
import sys
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

PACKAGES = {f"handgrad.{name}" for name in ("layers", "model", "interop", "training", "proof", "learn", "explorer")}

logger = logging.getLogger(__name__)


class Constants(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        package = import_module(self.arguments[0])
        definitions = nodes.definition_list()
        for name in package.__all__:
            value = getattr(package, name)
            if str(getattr(inspect.unwrap(value), "__module__", "")).startswith("handgrad"):
                continue  # a function or a class of ours
            full = f"{package.__name__}.{name}"
            term = nodes.term("", "", nodes.literal(text=name), ids=[full])
            if isinstance(value, int | float | str):
                term += nodes.Text(f" = {value!r}")
            said = " ".join(docstring_of(package.__name__, name).split())
            definitions += nodes.definition_list_item("", term, nodes.definition("", *self.parse_text_to_nodes(said)))
            self.env.domains.python_domain.note_object(full, "data", full, location=term)
        return [definitions]


def docstring_of(package: str, name: str) -> str:
    """What stands below it in that of the package's modules which defines it."""
    for module in sorted(sys.modules):
        if module.startswith(package):
            found = ModuleAnalyzer.for_module(module).find_attr_docs()
            if said := found.get(("", name)):
                return " ".join(said)
    return ""


def all_public(app: Sphinx, environment: BuildEnvironment) -> None:
    known = environment.domains.python_domain.objects
    for package in sorted(PACKAGES):
        if f"reference/api/{package.rpartition('.')[2]}" in environment.found_docs:
            names = import_module(package).__all__
            if missing := [name for name in names if f"{package}.{name}" not in known]:
                logger.warning("the reference has no %s of %s", ", ".join(missing), package)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("constants", Constants)
    app.connect("env-check-consistency", all_public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
