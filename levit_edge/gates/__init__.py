"""Limits, verdicts and the statistics behind them: pure checks of a report."""
