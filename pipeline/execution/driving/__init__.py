"""Modules that drive a run: its public functions, the cluster, the threads and the clock."""
