"""CIDEr-D (Vedantam et al. 2015), as pycocoevalcap computes it and papers print it times 100."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy

from ..results import Prediction
from .ngrams import LONGEST, NGram, ngrams
from .per_query import check_references, mean
from .ptb_tokens import ptb_tokens

SIGMA = 6.0


class Cider:
    """Cosine of TF-IDF weighted n-grams with each reference, meaned over references and lengths of n-grams, times 10.

    The documents that rareness is counted over are the references of all queries: a handful of queries gives other
    values than thousands, and a single one gives 0. In resamples the weights stay those of all queries.
    """

    name = "cider"

    def check(self, key: str, references: Sequence[str], options: Sequence[str]) -> None:
        """See :class:`Score`."""
        check_references(self.name, key, references, 1)

    def statistics(self, predictions: Sequence[Prediction]) -> numpy.ndarray:
        """(N, 1): each caption's CIDEr."""
        for prediction in predictions:
            self.check(prediction.key, prediction.references, ())
        references = [[ngrams(ptb_tokens(text)) for text in prediction.references] for prediction in predictions]
        documents = Counter(ngram for texts in references for ngram in {ngram for text in texts for ngram in text})
        rareness = {ngram: math.log(len(predictions)) - math.log(count) for ngram, count in documents.items()}
        unseen = math.log(len(predictions)) if predictions else 0.0
        rows = []
        for prediction, texts in zip(predictions, references, strict=True):
            answer = Weighted(ngrams(ptb_tokens(prediction.text)), rareness, unseen)
            similar = [answer.similarity(Weighted(text, rareness, unseen)) for text in texts]
            rows.append(10 * sum(similar) / len(similar))
        return numpy.array(rows, dtype=numpy.float64).reshape(-1, 1)

    def value(self, statistics: numpy.ndarray) -> float:
        """Mean over captions."""
        return mean(statistics)


class Weighted:
    """A text's n-grams, each as often as it stands there times its rareness.

    Args:
        text: its n-grams.
        rareness: of n-grams in references: log of the share of queries that have it, negated.
        unseen: of all others.
    """

    def __init__(self, text: Counter[NGram], rareness: dict[NGram, float], unseen: float) -> None:
        self.weights = {ngram: count * rareness.get(ngram, unseen) for ngram, count in text.items()}
        squares = [0.0] * LONGEST
        for ngram, weight in self.weights.items():
            squares[len(ngram) - 1] += weight * weight
        self.norms = [math.sqrt(square) for square in squares]
        self.length = sum(count for ngram, count in text.items() if len(ngram) == 2)  # in bigrams, as there

    def similarity(self, reference: "Weighted") -> float:
        """Meaned over n = 1 to 4. Weights are clipped to the reference's, and another length is punished (CIDEr-D)."""
        products = [0.0] * LONGEST
        for ngram, weight in self.weights.items():
            theirs = reference.weights.get(ngram, 0.0)
            products[len(ngram) - 1] += min(weight, theirs) * theirs
        cosines = [
            product / (ours * theirs) if ours and theirs else 0.0
            for product, ours, theirs in zip(products, self.norms, reference.norms, strict=True)
        ]
        return sum(cosines) / LONGEST * math.exp(-((self.length - reference.length) ** 2) / (2 * SIGMA**2))
