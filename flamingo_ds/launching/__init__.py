"""What happens around training in a job: which rank this is, signals, ends, preflight. Standard library only.

A batch script, a node on which torch is broken, and a rank before its heavy imports can all use it.
"""
