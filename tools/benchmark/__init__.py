"""The parts of ``tools/benchmark_model.py``."""
