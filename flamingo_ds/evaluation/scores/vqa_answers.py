"""Answers as the VQA evaluation compares them (its ``vqaEval.py`` of 2021, visualqa.org/evaluation)."""

import re

NUMBERS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
} | {"none": "0"}
ARTICLES = ("a", "an", "the")
# Right forms; a word that lacks one apostrophe of one of these gets it back.
CONTRACTED = """
    'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
    he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't
    needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll
    somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in CONTRACTED.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}  # as it stands there
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
COMMA_IN_NUMBER = re.compile(r"\d,\d", re.ASCII)
PERIOD = re.compile(r"\.(?!\d)", re.ASCII)
# There the flag re.UNICODE stands in the place of a count, so that no more than 32 periods go.
MOST_PERIODS = 32


def stripped(answer: str) -> str:
    """Without white space around, on one line."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def normalised(answer: str) -> str:
    """Lower case, digits for number words, no articles, apostrophes of contractions, no punctuation.

    A mark becomes a space between two letters, and nothing where it touches a space or the answer has a comma between
    digits.
    """
    text = answer
    for mark in PUNCTUATION:
        apart = mark + " " in answer or " " + mark in answer or COMMA_IN_NUMBER.search(answer)
        text = text.replace(mark, "" if apart else " ")
    words = [NUMBERS.get(word, word) for word in PERIOD.sub("", text, count=MOST_PERIODS).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
