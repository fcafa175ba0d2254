from ..data.conftest import make_rules

__all__ = ["make_rules"]
