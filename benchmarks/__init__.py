"""Speed, as ratios against a peer in the same process and interleaved rounds. `python -m benchmarks.step --help`."""
