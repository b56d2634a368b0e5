"""End to end on a real Kubernetes: `python -m tests.cluster`."""
