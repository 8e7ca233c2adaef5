"""Reports on finished and running jobs: the HTML page of a run, and the comparison of runs. Only files are read."""
