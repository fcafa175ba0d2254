"""Prompts with their pictures and answers, right and wrong, as one HTML file that needs no other."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path

from ...checkpoint.files import replace_text
from ..prompts import EOC_TOKEN, IMAGE_TOKEN
from ..results import Cell, Prediction, Report, TaskResult
from ..scores import SCORES
from .grades import grades, right_and_wrong
from .series import all_series
from .table import formatted, notes
from .thumbnails import thumbnail

EACH = 4
STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #2a7; --bad: #c43; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .25em .8em; border-bottom: 1px solid var(--line); }
th { text-align: left; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
h2 { margin-top: 2.5em; border-bottom: 2px solid var(--line); } nav a { margin-right: 1em; }
article { border: 1px solid var(--line); border-left: 5px solid var(--bad); border-radius: 6px; padding: .8em 1em;
  margin: 1em 0; } article.good { border-left-color: var(--good); }
.prompt { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24em; overflow-y: auto; }
.prompt img, .prompt .gone { vertical-align: middle; margin: 3px; border-radius: 3px; }
.gone { display: inline-block; border: 1px dashed #888; padding: 1.2em .5em; font-size: 12px; color: #888; }
.answer { font-weight: 600; } .good .answer { color: var(--good); } .bad .answer { color: var(--bad); }
.small { color: #888; font-size: 13px; } dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; }
dd { margin: 0; overflow-wrap: anywhere; } .plot { max-width: 100%; background: white; }
"""


def write_page(report: Report, plot: Path, path: Path) -> None:
    """Write the page.

    Args:
        report: of one model.
        plot: PNG of its scores, to be shown on the page.
        path: of the page.
    """
    label = Path(report.model).name or report.model
    tasks = list(report.tasks)
    links = "".join(f'<a href="#task-{number}">{escape(result.task)}</a>' for number, result in enumerate(tasks))
    image = base64.b64encode(plot.read_bytes()).decode("ascii")
    body = [
        f"<h1>{escape(label)}</h1><nav>{links}</nav>",
        _scores({label: report}),
        f'<img class="plot" alt="scores over shots" src="data:image/png;base64,{image}">',
        f"<details><summary>Settings</summary><dl>{_settings(report)}</dl></details>",
        *(_task(number, result) for number, result in enumerate(tasks)),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(label)}</title>'
    text = f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n'
    replace_text(path, text + "\n".join(body) + "\n</body></html>\n")


def _scores(reports: Mapping[str, Report]) -> str:
    series = all_series(reports)
    shots = sorted({count for row in series for count in row.points})
    head = "".join(f"<th>{count} shots</th>" for count in shots)
    rows = [
        f"<tr><td>{escape(row.task)}</td><td>{escape(row.score)}</td>"
        + "".join(f'<td class="n">{formatted(row.points.get(count))}</td>' for count in shots)
        + "</tr>"
        for row in series
    ]
    remarks = "".join(f'<p class="small">{escape(line)}</p>' for line in notes(reports))
    table = f"<table><tr><th>task</th><th>score</th>{head}</tr>{''.join(rows)}</table>"
    return f'{table}<p class="small">with 95 % intervals</p>{remarks}'


def _settings(report: Report) -> str:
    pairs = {"model": report.model, **report.settings}
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in pairs.items())


def _task(number: int, result: TaskResult) -> str:
    """The first draw of examples at each number of shots."""
    first = {cell.shots: cell for cell in reversed(result.cells)}
    cells = "".join(_cell(first[shots]) for shots in sorted(first))
    return f'<h2 id="task-{number}">{escape(result.task)}</h2><p class="small">{escape(result.path)}</p>{cells}'


def _cell(cell: Cell) -> str:
    score = next(iter(cell.scores), "")
    if not cell.predictions:
        return f"<h3>{cell.shots} shots</h3><p>nothing was asked</p>"
    marks = grades(score, cell.predictions)
    good, bad = right_and_wrong(score, marks, EACH)
    shown_as = score if score in SCORES and score != "roc_auc" and score != "bleu4" else ""
    kinds = "better and worse half by CIDEr" if score == "cider" else "right and wrong answers"
    parts = [
        f"<h3>{cell.shots} shots, {len(cell.predictions)} queries</h3>",
        f'<p class="small">some of the {kinds}, which are green and red</p>',
    ]
    for places, kind in ((good, "good"), (bad, "bad")):
        for place in places:
            mark = f" <span class='small'>{escape(shown_as)} {marks[place]:.2f}</span>" if shown_as else ""
            parts.append(_sample(cell.predictions[place], kind, mark))
    return "".join(parts)


def _sample(prediction: Prediction, kind: str, mark: str) -> str:
    said = " · ".join(dict.fromkeys(prediction.references))
    answer = escape(prediction.text) or "(empty)"
    likelihoods = sorted((prediction.log_likelihoods or {}).items(), key=lambda pair: -pair[1])[:5]
    options = ", ".join(f"{option} {number:.2f}" for option, number in likelihoods)
    best = f'<div class="small">log-likelihoods: {escape(options)}</div>' if options else ""
    return (
        f'<article class="{kind}"><div class="small">{escape(prediction.key)}</div>'
        f'<div class="prompt">{_prompt(prediction)} <span class="answer">{answer}</span>{mark}</div>{best}'
        f'<div class="small">people said: {escape(said)}</div></article>'
    )


def _prompt(prediction: Prediction) -> str:
    """Its text with each picture in its place, each example on a line of its own.

    Where a model's text marks pictures in another way, they stand before it.
    """
    text = prediction.prompt or prediction.question
    pieces = text.split(IMAGE_TOKEN)
    pictures = [thumbnail(path) for path in prediction.prompt_media or prediction.media]
    if len(pieces) - 1 == len(pictures):
        shown = escape(pieces[0]) + "".join(
            picture + escape(piece) for picture, piece in zip(pictures, pieces[1:], strict=True)
        )
    else:
        shown = "".join(pictures) + "\n" + escape(text)
    return shown.replace(escape(EOC_TOKEN), f"{escape(EOC_TOKEN)}<br>")
