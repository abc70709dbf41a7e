"""What runs inside a worker: to read, to compute, to put together, to write."""
