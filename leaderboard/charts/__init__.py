"""Charts: their geometry, and the text and figures that go with it. The templates draw them as inline SVG."""

from leaderboard.charts.chart import Chart, ids
from leaderboard.charts.family import family_charts
from leaderboard.charts.looks import families, legend, looks
from leaderboard.charts.matrix import matrix
from leaderboard.charts.scatter import FRONT, cost_charts, size_chart, speed_charts
from leaderboard.charts.strips import dot_plot
from leaderboard.charts.training import row_training, table_training
from leaderboard.charts.tuning import tuning_charts

__all__ = [
    "FRONT",
    "Chart",
    "cost_charts",
    "dot_plot",
    "families",
    "family_charts",
    "ids",
    "legend",
    "looks",
    "matrix",
    "row_training",
    "size_chart",
    "speed_charts",
    "table_training",
    "tuning_charts",
]
