"""The end of the course: the reader's own functions are put together, and train a GPT."""

from .train import STEPS, Agreement, Step, Trained, needed, train

__all__ = ["STEPS", "Agreement", "Step", "Trained", "needed", "train"]
