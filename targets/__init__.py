"""The targets: one record each, with what lowers, runs, reads and verifies its model files."""
