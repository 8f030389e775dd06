"""Exercises that answer back: what a reader wrote, held against an answer found by another way.

    sheet = exercises.sheet("04_gan")     # the exercises of a chapter
    sheet.check("4.1", my_function)       # says right, not yet and why, or that it waits
    sheet.summary()                       # how many are answered, and how many are right

A chapter's sheet stands in sheets/chapter_NN.py.  Each exercise has an oracle, written
without the chapter's code (float64, closed forms, torch.distributions), and the mistakes that
readers make, each a function or a value with its sentence: an answer that agrees with one of them
on every case is told so.  `Sheet` makes a sheet of one's own.
"""

from genmed_core.exercises.exercise import KINDS, Exercise, Verdict
from genmed_core.exercises.functions import FunctionExercise
from genmed_core.exercises.questions import ChoiceExercise, NumberExercise
from genmed_core.exercises.sheet import NotRight, Sheet, sheet

__all__ = [
    "KINDS", "ChoiceExercise", "Exercise", "FunctionExercise", "NotRight", "NumberExercise",
    "Sheet", "Verdict", "sheet",
]
