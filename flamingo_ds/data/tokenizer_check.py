"""The tokenizer, looked at once before a run: a special token that is none would only show after a night's training."""

from typing import Any

from ..config import ConfigError

KEY = "model.language_model.source"


def check_tokenizer(tokenizer: Any, *special: str) -> None:
    """Hold ``<image>`` and ``<EOC>`` against what training relies on.

    Args:
        tokenizer: to which they were added.
        special: those tokens.

    Raises:
        ConfigError: one is no token of its own, does not come back as it went in, or can be made by writing it in a
            text.
    """
    name = type(tokenizer).__name__
    ids = {}
    for token in special:
        ids[token] = tokenizer.convert_tokens_to_ids(token)
        if ids[token] is None or ids[token] == tokenizer.unk_token_id:
            raise ConfigError(KEY, name, f"a tokenizer that knows {token}")
        encoded = tokenizer(f"a{token}b", add_special_tokens=False)["input_ids"]
        if encoded.count(ids[token]) != 1 or tokenizer.decode([ids[token]]).strip() != token:
            raise ConfigError(KEY, name, f"a tokenizer that reads and writes {token} as one token")
    if len(set(ids.values())) < len(special):
        raise ConfigError(KEY, name, f"a token each for {', '.join(special)}")
    text = " ".join(f"a {token} b{token}c" for token in special)
    written = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if forged := [token for token in special if ids[token] in written]:
        raise ConfigError(KEY, name, f"a tokenizer that can keep the text {forged[0]} of a caption a text")
    if tokenizer.pad_token_id is None:
        raise ConfigError(KEY, name, "a tokenizer with a padding token")
