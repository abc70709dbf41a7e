"""Planning, building the graph, and running it."""
