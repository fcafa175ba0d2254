"""Questions on videos: MSVD-QA, MSRVTT-QA and iVQA; the train split is the support set, test is asked.

::

    msvd_qa/{train,test}_qa.json                   msrvtt_qa/{train,test}_qa.json          ivqa/{train,test}.csv
    msvd_qa/youtube_mapping.txt                    msrvtt_qa/video/video0.mp4              ivqa/video/YOUTUBEID_7_14.mp4
    msvd_qa/video/-4wsuPCjDBc_5_15.avi

A video is a file (mp4, webm, mkv, mov, avi) or a folder of its frames.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from ...config import ConfigError
from ..task import Answering, Sample, Task
from .folder import KEY, field, find, most_common_first, read_json, read_text
from .media import Videos
from .visual_questions import MAX_NEW_TOKENS, QUESTION

FOLDERS = ("video", "videos")
ANSWERS_OF_IVQA = 5


def msvd_qa(root: Path) -> Task:
    """MSVD-QA; ``youtube_mapping.txt`` tells which clip ``vid1`` is."""
    videos = Videos(find(root, *FOLDERS, "YouTubeClips"))
    clips = {}
    for line in read_text(find(root, "youtube_mapping.txt")).splitlines():
        clip, _, number = line.strip().rpartition(" ")
        clips[number] = clip
    return _of_xu("msvd_qa", root, lambda number: videos.path(clips.get(f"vid{number}", f"vid{number}")))


def msrvtt_qa(root: Path) -> Task:
    """MSRVTT-QA."""
    videos = Videos(*(root / folder for folder in ("TrainValVideo", "TestVideo")))
    if not videos.folders:
        videos = Videos(find(root, *FOLDERS))
    return _of_xu("msrvtt_qa", root, lambda number: videos.path(f"video{number}"))


def ivqa(root: Path) -> Task:
    """IVQA, of whose videos each clip is cut out: ``VIDEO_START_END``."""
    videos = Videos(find(root, *FOLDERS))
    return _task("ivqa", _of_ivqa(root, "train", videos), _of_ivqa(root, "test", videos), "ivqa_accuracy")


def _of_xu(name: str, root: Path, path_of: Callable[[int], Path]) -> Task:
    """``[{"id", "video_id", "question", "answer"}]`` (Xu et al. 2017)."""
    splits = []
    for split in ("train", "test"):
        file = find(root, f"{split}_qa.json")
        splits.append(
            [
                Sample(
                    key=str(field(entry, "id", file, (int, str))),
                    media=(path_of(field(entry, "video_id", file, int)),),
                    question=field(entry, "question", file),
                    answers=(field(entry, "answer", file).strip(),),
                )
                for entry in read_json(file, list, f"the list of questions of {name}")
            ]
        )
    support, queries = splits
    return _task(name, support, queries, "exact_match")


def _of_ivqa(root: Path, split: str, videos: Videos) -> list[Sample]:
    """Columns ``video_id, start, end, question, answer1, ..., answer5`` (Yang et al. 2021)."""
    file = find(root, f"{split}.csv")
    answers = [f"answer{number}" for number in range(1, ANSWERS_OF_IVQA + 1)]
    columns = ["video_id", "start", "end", "question", *answers]
    samples = []
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
    if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise ConfigError(KEY, str(file), f"columns {', '.join(columns)}; it lacks {', '.join(missing)}")
    for number, row in enumerate(reader):
        path = videos.path(f"{row['video_id']}_{row['start']}_{row['end']}")
        said = [text for column in answers if (text := (row[column] or "").strip())]
        samples.append(Sample(f"{split} {number}", (path,), row["question"] or "", most_common_first(said)))
    return samples


def _task(name: str, support: list[Sample], queries: list[Sample], score: str) -> Task:
    return Task(name, Answering.open_ended, support, queries, (score,), QUESTION, max_new_tokens=MAX_NEW_TOKENS)
