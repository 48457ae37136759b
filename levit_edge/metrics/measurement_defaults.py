"""How often things are measured unless the user says otherwise. Nothing is imported, so that the help can show it."""

TIMED_RUNS = 60  # rounds of a latency measurement
WARMUP_ROUNDS = 10  # rounds before them, which are not counted
COUNTED_RUNS = 5  # inferences whose instructions are counted
