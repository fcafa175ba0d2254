"""Weights from and to disk: the frozen base from its source, what trains in checkpoints, both together as an export."""
