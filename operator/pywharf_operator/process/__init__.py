"""The operator's process: options, work queue, probes and metrics."""
