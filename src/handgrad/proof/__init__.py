"""The proof: derivatives by evaluation alone, and every gradient compared with them."""

from .against_torch import check_against_torch, require_torch
from .case import Case
from .cases import all_cases, gpt_case, model_case
from .check import BAR, Finding, Verdict, check_along, check_case, check_mutations, moved_together
from .compare import Comparison, compare_files
from .derivative import central_difference, complex_step, complex_step_along, relative_error
from .kit import VARIANTS as KIT
from .kit import write_kit
from .lesson import Lesson, loss_of_right_gradients
from .mutations import MUTATIONS, Mutation
from .trace import Trace, refuse_other_files, trace

__all__ = [
    "BAR",
    "KIT",
    "MUTATIONS",
    "Case",
    "Comparison",
    "Finding",
    "Lesson",
    "Mutation",
    "Trace",
    "Verdict",
    "all_cases",
    "central_difference",
    "check_against_torch",
    "check_along",
    "check_case",
    "check_mutations",
    "compare_files",
    "complex_step",
    "complex_step_along",
    "gpt_case",
    "loss_of_right_gradients",
    "model_case",
    "moved_together",
    "refuse_other_files",
    "relative_error",
    "require_torch",
    "trace",
    "write_kit",
]
