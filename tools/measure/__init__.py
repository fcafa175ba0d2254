"""What the layouts need and cost, measured on running engines: the parts of ``tools/measure_layouts.py``."""
