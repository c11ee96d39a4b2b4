"""A fair, runnable comparison of knowledge-distillation methods for neural machine translation."""

__version__ = "0.1.0"

ENGINE = {
    "tokenizer": 2,
    "corpus": 2,
    "teacher": 3,
    "text": 2,
    "student": 3,
    "dev": 2,
    "sweep": 1,
    "scores": 2,
    "metric": 1,
    "speed": 1,
}
"""Versions of the code behind each kind of artifact: raised when a change alters what it produces."""
