"""The demo: real handwritten digits, backbones small enough to train here, captions at the end."""
