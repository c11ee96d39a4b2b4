"""What records must pass to be believed without running them again: ``bench validate``.

All that can be computed again from a record and the files beside it is computed again; where the data set is here, so
is what needs its sources and references. A row must be whole, and a folder of records must hold nothing else.
"""

from bench.validation.validator import Validator, Verdict, summary

__all__ = ["Validator", "Verdict", "summary"]
