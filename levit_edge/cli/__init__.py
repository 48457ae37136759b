"""The command line: the only place that prints. Everything heavy is imported inside the verbs."""

from levit_edge.cli.entry import main, run

__all__ = ["main", "run"]
