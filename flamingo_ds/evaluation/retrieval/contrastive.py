"""A contrastive model of open_clip: images and texts as features of length 1 in one space."""

import hashlib
from collections.abc import Sequence

import numpy
import open_clip
import torch
import torch.distributed as dist
from PIL import Image

from ...checkpoint.sources import LOADING_ERRORS
from ...errors import ConfigError
from ...parallel.launch import Launch

KEY = "MODEL"
SCHEMES = ("local-dir:", "hf-hub:")
# Texts that are encoded together: the same ones on any number of ranks.
GROUP = 256


class Contrastive:
    """Both towers, on this rank's GPU where there is one. The image tower is an encoder for an index (``rices/``).

    Args:
        name: ``local-dir:FOLDER``, ``hf-hub:ORG/NAME`` or ``MODEL/WEIGHTS`` of open_clip, as ``ViT-B-32/openai``;
            WEIGHTS is a tag or a file.
        launch: this rank's place.

    Raises:
        ConfigError: a model or weights that open_clip does not know or cannot load.
    """

    def __init__(self, name: str, launch: Launch) -> None:
        architecture, weights = (name, None) if name.startswith(SCHEMES) else split_name(name)
        device = torch.device("cuda", launch.local_rank) if torch.cuda.is_available() else torch.device("cpu")
        try:
            # Without weights open_clip would draw them at random.
            self.model, self.transform = open_clip.create_model_from_pretrained(
                architecture, pretrained=weights, device=device
            )
            self.tokenizer = open_clip.get_tokenizer(architecture)
        except (*LOADING_ERRORS, TypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(KEY, name, f"a contrastive model of open_clip: {reason}") from error
        self.model.eval()
        self.name, self.device, self.launch = name, device, launch
        self.key = f"open_clip {_sha256(self.model.visual)}"

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Of images: (N, D) float32 on the CPU."""
        pixels = torch.stack([self.transform(image) for image in images])
        encoded: torch.Tensor = self.model.encode_image(pixels.to(self.device), normalize=True)
        return encoded.float().cpu()

    def text_features(self, texts: Sequence[str]) -> numpy.ndarray:
        """Of texts, each rank's share and then all of them: (N, D) float32.

        Raises:
            ConfigError: a tokenizer that is not the model's.
        """
        groups = [texts[start : start + GROUP] for start in range(0, len(texts), GROUP)]
        ranks = self.launch.world_size
        mine = [self._encode(group) for group in groups[self.launch.rank :: ranks]]
        shares = [mine]
        if ranks > 1:
            shares = [[] for _ in range(ranks)]
            dist.all_gather_object(shares, mine)
        return numpy.concatenate([shares[number % ranks][number // ranks] for number in range(len(groups))])

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> numpy.ndarray:
        tokens = self.tokenizer(list(texts))
        vocabulary = getattr(self.model, "vocab_size", None)
        if vocabulary is not None and int(tokens.max()) >= vocabulary:
            raise ConfigError(KEY, self.name, f"a tokenizer of its own {vocabulary} tokens; it has {tokens.max()}")
        return self.model.encode_text(tokens.to(self.device), normalize=True).float().cpu().numpy()


def split_name(name: str) -> tuple[str, str]:
    """Model and weights.

    Raises:
        ConfigError: no weights.
    """
    architecture, slash, weights = name.partition("/")
    if not architecture or not slash or not weights:
        raise ConfigError(KEY, name, f"MODEL/WEIGHTS of open_clip, or one of {', '.join(SCHEMES)}... for retrieval")
    return architecture, weights


def _sha256(module: torch.nn.Module) -> str:
    """Over weights, so that an index is found again wherever they come from."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
