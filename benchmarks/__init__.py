"""handgrad and PyTorch side by side: `python -m benchmarks --help`."""
