"""A fair, runnable comparison of knowledge-distillation methods for neural machine translation."""

__version__ = "0.1.0"

ENGINE = {
    "tokenizer": 1,
    "corpus": 1,
    "teacher": 2,
    "text": 1,
    "student": 2,
    "dev": 1,
    "sweep": 1,
    "scores": 1,
}
"""Versions of the code behind each kind of artifact: raised when a change alters what it produces."""
