"""The proof: derivatives by evaluation alone, and every gradient compared with them."""

from .cases import Case, all_cases, block_case, gpt_case
from .check import BAR, Verdict, check_case
from .derivative import central_difference, complex_step, complex_step_along, relative_error

__all__ = [
    "BAR",
    "Case",
    "Verdict",
    "all_cases",
    "block_case",
    "central_difference",
    "check_case",
    "complex_step",
    "complex_step_along",
    "gpt_case",
    "relative_error",
]
