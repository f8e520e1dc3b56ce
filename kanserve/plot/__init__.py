"""Pictures of networks and results with matplotlib, and HTML pages for notebooks without it."""

from kanserve.plot.charts import plot_losses as plot_losses
from kanserve.plot.charts import plot_pareto as plot_pareto
from kanserve.plot.charts import plot_residuals as plot_residuals
from kanserve.plot.edge_picture import plot_edge as plot_edge
from kanserve.plot.live_progress import LiveProgress as LiveProgress
from kanserve.plot.network_picture import plot_network as plot_network

__all__ = ["LiveProgress", "plot_edge", "plot_losses", "plot_network", "plot_pareto", "plot_residuals"]
