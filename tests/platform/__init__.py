"""The images and the chart, without a cluster: `python -m tests.platform`."""
