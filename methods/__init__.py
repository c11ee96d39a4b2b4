"""Distillation methods for neural machine translation: one file each, one class in it.

A file here is found by its name; ``python -m bench new-method NAME`` writes a first one that works. ``bench.method``
describes what a method must and may say.
"""
