"""``python -m levit_edge``, the same as ``levit-edge``."""

from levit_edge.cli import main

main()
