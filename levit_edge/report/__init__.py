"""The report of a build as data, and each way to show it."""
