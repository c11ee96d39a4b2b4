"""A fair, runnable comparison of knowledge-distillation methods for neural machine translation."""

__version__ = "0.1.0"

ENGINE = {
    "tokenizer": 2,
    "corpus": 2,
    "teacher": 4,
    "text": 4,
    "signals": 1,
    "student": 5,
    "dev": 4,
    "sweep": 1,
    "scores": 4,
    "metric": 1,
    "speed": 8,
}
"""Versions of the code behind each kind of artifact: raised when a change alters what it produces."""
