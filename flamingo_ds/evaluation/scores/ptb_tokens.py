"""Words of a caption as the COCO caption evaluation has them, without Java.

There, Stanford's PTBTokenizer (CoreNLP 3.4.1) cuts each line into Penn Treebank tokens in lower case, and tokens of
punctuation are dropped. This is the same for what captions hold; docs/scores.md says what differs and how often.
"""

import re

# What PTBTokenizer's users drop. Not brackets: the list of pycocoevalcap has them in capitals, behind lowering.
DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", ";"])
STRAIGHT = str.maketrans(
    {"‘": "'", "’": "'", "`": "'", "“": '"', "”": '"', "«": '"', "»": '"', "–": "--", "—": "--", "…": "."}  # noqa: RUF001
)
RENAMED = {'"': "''", "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"} | {
    "£": "#",
    "€": "$",
    "¢": "cents",
}
# Words that keep their full stop wherever they stand.
ABBREVIATIONS = (
    "mr|mrs|ms|messrs|dr|drs|st|jr|sr|co|corp|inc|ltd|bros|cos|etc|vs|al|sgt|gen|lt|col|maj|capt|cpl|cmdr|adm|rev|hon|"
    "sen|sens|rep|reps|gov|govs|pres|prof|profs|supt|univ|assn|est|dept|ext|bldg|rd|ct|pl|sq|ave|blvd|mt|ft|tel|ph\\.d|"
    "jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|tues|wed|thu|thurs|fri|ala|ariz|calif|colo|conn|dak|fla|"
    "ga|ill|ind|kan|kans|ky|mass|md|mich|minn|mo|mont|neb|nev|okla|ont|ore|pa|penn|tenn|tex|va|vt|wash|wis|wyo"
)
# Behind a letter with a full stop they begin a sentence.
STARTERS = "A|All|An|And|As|At|But|By|He|Her|His|If|In|It|Its|On|She|So|That|The|Their|There|They|This|To|We|You"
TOKEN = re.compile(
    rf"""
    https?://[^\s<>]*[\w/] | </?[a-z][^<>\s:]*> | [\w.]+@[\w.]*\w | [@\#][a-z_]\w*      # addresses, tags, names
    | \.+ | -+
    | (?:{ABBREVIATIONS})\.(?!\w)
    | no\.(?=\s*\d)
    | (?:[a-z]\.){{2,}}(?!\w) | [a-z]\.(?!\w)(?!\s+(?-i:{STARTERS})\b)        # u.s. and the letter x.
    | can(?=not\b) | gon(?=na\b) | wan(?=na\b) | got(?=ta\b) | lem(?=me\b) | gim(?=me\b)
    | '(?=t(?:is|was))t | y'(?=all\b) | ma'am\b | ol'(?!\w) | n?e'er\b
    | [dlo]'(?!(?:ll|re|ve)\b)[^\W\d_]{{2,}}(?:-\w+)*                        # d'art, o'clock
    | [^\W\d_]+?(?=n't\b) | n't\b | '(?:s|re|ve|ll|d|m)\b                    # do n't, it 's
    | '(?:em|cause|til|n)\b'? | (?<!\d)'\d\ds?\b
    | (?-i:[A-Z]+(?:&[A-Z]+)+)
    | \d+(?:[.,:]\d+)+(?:[-/]\d+(?:[.,:]\d+)*)*                              # 3.5, 1,000, 10:30
    | \w+(?:[-/]\w+|(?<=[^\W\d])\.[^\W\d]\w*)*                               # t-shirt, and/or, foo.com
    | [!?]+ | \*+ | \#+
    | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def ptb_tokens(text: str) -> list[str]:
    """Tokens in lower case without punctuation; possibly none."""
    found = (token.lower() for token in TOKEN.findall(text.translate(STRAIGHT)) if token.strip(".-"))
    return [token for token in (RENAMED.get(token, token) for token in found) if token not in DROPPED]
