"""What the rungs have in common."""

from ...proof import MUTATIONS, Case
from ..exercise import Mistake, Problem

WHYS = {mutation.name: mutation.why for mutation in MUTATIONS}


def of_catalogue(name: str, right: str, wrong: str) -> Mistake:
    """A mistake that the catalogue has elsewhere in the library, as it looks in an exercise."""
    return Mistake(name, right, wrong, WHYS[name])


def as_in_library(case: Case) -> Problem:
    """A problem whose forward takes what the library's layer takes, by the same names."""
    return Problem({**case.inputs, **case.given}, twin=case)


def inputs_as_in_library(case: Case) -> Problem:
    """The same, where the exercise knows the usual settings only, the scale 1/√D, say, and takes none."""
    return Problem(case.inputs, twin=case)
