"""What drives a run: the front door, the cluster, the threads and the clock."""
