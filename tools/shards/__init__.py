"""Parts of tools/make_shards.py and tools/inspect_data.py."""
