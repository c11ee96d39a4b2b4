"""Tracking with comet-ml, the experiment tracker (not COMET, the translation metric, which is ``unbabel-comet``).

The run's own records and artifacts are the truth: the tracker is told of what is already written, and whatever goes
wrong in it costs one warning.
"""

from bench.track.experiment import Experiment, TrialOrigin, row_experiment, trial_experiment
from bench.track.process import Tracking

__all__ = ["Experiment", "Tracking", "TrialOrigin", "row_experiment", "trial_experiment"]
