"""Grading: a reader's file is run beside us, judged, and told what is wrong with it."""

from .grade import Grade, grade, grade_file, grade_files
from .run import Limits

__all__ = ["Grade", "Limits", "grade", "grade_file", "grade_files"]
