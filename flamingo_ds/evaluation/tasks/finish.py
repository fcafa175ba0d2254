"""From what a folder says to what can be asked: checked, and limited to as many support samples as the paper takes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy

from ...config import ConfigError
from ..choosing import classes_of
from ..draws import occurrence
from ..task import Answering, Sample, Task, is_video
from .folder import KEY
from .media import Listing
from .same_bytes import mark_same_bytes

# Paper, appendix B.1.4: 2,048 support samples, of classification tasks 32 a class.
SUPPORT_SAMPLES = 2048
SUPPORT_SAMPLES_A_CLASS = 32


def finish(task: Task, path: Path, support_limit: int | None) -> Task:
    """The task without what cannot be used, which is counted by kind.

    Args:
        task: as read from its folder.
        path: of that folder, for errors.
        support_limit: most support samples; None: the paper's number.

    Raises:
        ConfigError: two samples of one key, two equal options, an answer outside the list, or no query that can be
            asked.
    """
    for what, samples in (("support set", task.support), ("queries", task.queries)):
        _check_keys(samples, what, path)
        _check_answers(task, samples, what, path)
    listing = Listing()
    skipped = Counter(task.skipped)
    queries = _usable(task.queries, len(task.queries), listing, skipped)
    if not queries:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items())) or "none at all"
        raise ConfigError(KEY, str(path), f"queries that can be asked; {task.name} has {kinds}")
    in_support: Counter[str] = Counter()
    limit = _limit(task, support_limit)
    support = _usable(_in_drawing_order(task, limit), limit, listing, in_support)
    skipped.update({f"support_{kind}": count for kind, count in in_support.items()})
    support, queries = mark_same_bytes(support, queries)
    return replace(task, queries=queries, support=support, skipped=dict(skipped))


def _check_keys(samples: Sequence[Sample], what: str, path: Path) -> None:
    seen = set()
    for sample in samples:
        if sample.key in seen:
            raise ConfigError(KEY, str(path), f"a key for each sample; {sample.key!r} stands twice in its {what}")
        seen.add(sample.key)


def _check_answers(task: Task, samples: Sequence[Sample], what: str, path: Path) -> None:
    """Each answer of a close-ended task is one of its options."""
    if task.answering is Answering.open_ended:
        return
    options = frozenset(task.options)
    if len(options) < len(task.options):
        twice = next(option for option, count in Counter(task.options).items() if count > 1)
        raise ConfigError(KEY, str(path), f"options that differ; {twice!r} stands there twice")
    if not all(option.strip() for option in options):
        raise ConfigError(KEY, str(path), "no empty option")
    for sample in samples:
        among = frozenset(sample.options) if sample.options else options
        if len(among) < 2 or len(among) < len(sample.options):
            raise ConfigError(KEY, str(path), f"two different options or more for sample {sample.key!r} of its {what}")
        if not all(option.strip() for option in sample.options):
            raise ConfigError(KEY, str(path), f"no empty option for sample {sample.key!r} of its {what}")
        if outside := [answer for answer in sample.answers if answer not in among]:
            shown = ", ".join(sorted(among)[:5]) + (", ..." if len(among) > 5 else "")
            raise ConfigError(
                KEY, str(path), f"answers among {shown}; sample {sample.key!r} of its {what} has {outside[0]!r}"
            )


def _limit(task: Task, support_limit: int | None) -> int:
    if task.episodes:  # it names its examples itself
        return len(task.support)
    if support_limit is not None:
        return support_limit
    return max(SUPPORT_SAMPLES, SUPPORT_SAMPLES_A_CLASS * len(task.options))


def _in_drawing_order(task: Task, limit: int) -> Sequence[Sample]:
    """As they stand; of more than the limit a random order, always the same, that goes round the classes."""
    if len(task.support) <= limit:
        return task.support
    order = numpy.random.default_rng(0).permutation(len(task.support))
    if task.options:
        order = order[numpy.argsort(occurrence(classes_of(task)[order]), kind="stable")]
    return [task.support[index] for index in order.tolist()]


def _usable(samples: Sequence[Sample], most: int, listing: Listing, skipped: Counter[str]) -> list[Sample]:
    """The first of them that can be used; what is passed over on the way is counted."""
    usable: list[Sample] = []
    for sample in samples:
        if len(usable) == most:
            break
        if kind := _fault(sample, listing):
            skipped[kind] += 1
        else:
            usable.append(sample)
    return usable


def _fault(sample: Sample, listing: Listing) -> str | None:
    """Why a sample cannot be used."""
    if not sample.answers or not sample.answers[0].strip():
        return "no_answer"
    try:
        "".join((sample.key, sample.question, *sample.answers, *sample.options)).encode()
    except UnicodeEncodeError:  # JSON can write half a surrogate pair, and no tokenizer takes it
        return "undecodable_text"
    for path in sample.media:
        if not listing.holds(path):
            return "missing_video" if is_video(path) else "missing_image"
    return None
