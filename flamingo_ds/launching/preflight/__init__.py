"""Is every node fit to train? Asked ahead of it, in a step of its own; a bad node is named, so that it can be left out.

    local     each rank looks at its own node; all tell rank 0, over plain TCP, with the time that is left
    torch     a process of its own on each rank imports torch and counts GPUs: it may fail, crash or hang there
    together  these processes reduce a tensor, first on each node, then over all ranks

Between the stages rank 0 judges; a bad node ends it there, before the others would wait for that node.
"""
