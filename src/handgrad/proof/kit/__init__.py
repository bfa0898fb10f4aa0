"""The conformance kit: cases for people who write kernels in other languages."""

from .cases import VARIANTS, draw_case
from .write import kit_case, write_kit

__all__ = ["VARIANTS", "draw_case", "kit_case", "write_kit"]
