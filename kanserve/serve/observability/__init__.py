"""What is told of the calls: metrics, logs, traces."""
