"""The course: the reader writes each backward, and is told what is wrong with it."""

from .classroom import Result, as_csv, as_json, by_folder, commonest_mistakes, grade_folders, passed_in, student_folders
from .course import Course, Standing, find
from .exercise import HINTS, Exercise, Mistake
from .finale import STEPS, Agreement, Step, Trained, needed, train
from .grading import Grade, Limits, grade, grade_file, grade_files
from .ladder import EXERCISES

__all__ = [
    "EXERCISES",
    "HINTS",
    "STEPS",
    "Agreement",
    "Course",
    "Exercise",
    "Grade",
    "Limits",
    "Mistake",
    "Result",
    "Standing",
    "Step",
    "Trained",
    "as_csv",
    "as_json",
    "by_folder",
    "commonest_mistakes",
    "find",
    "grade",
    "grade_file",
    "grade_files",
    "grade_folders",
    "needed",
    "passed_in",
    "student_folders",
    "train",
]
