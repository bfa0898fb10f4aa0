"""The comparer: which of somebody else's tensors is wrong first, and why."""

from .compare import Comparison, Row, compare, compare_files
from .mine import read_mine
from .reference import Reference, read_reference

__all__ = ["Comparison", "Reference", "Row", "compare", "compare_files", "read_mine", "read_reference"]
