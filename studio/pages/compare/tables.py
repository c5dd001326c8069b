"""The tables of Compare: scores by group, settings that differ, exact match by cluster."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from studio import cards
from studio.cards import Markup
from studio.comparison.clusters import ClusterRow
from studio.comparison.groups import Compared
from studio.comparison.scores import Row, Spread, apart, exact_difference, labels_of
from studio.comparison.settings import ROWS, title
from studio.comparison.statistics import Difference
from studio.comparison.tables import settings_by_group
from studio.comparison.verdict import points
from studio.pages.compare.asked import Asked
from studio.pages.compare.views import chip

MOST_ROWS = 40  # groups of the score table
MOST_COLUMNS = 6  # groups beside each other
MOST_VALUES = 12  # of a setting, where there are more groups
MINUTE, MB = 60.0, 1e6


def section(title: str, more: object, body: object) -> Markup:
    """A heading with a remark, and what is below it."""
    return Markup(
        f"<section class='hy-part'><h3>{cards.text(title)} <span class='hy-quiet'>{cards.text(more)}</span></h3>"
        f"{cards.text(body)}</section>"
    )


def score_table(compared: Compared, rows: list[Row], asked: Asked) -> Markup:
    """Everything that was measured of each group; two groups have their difference below them."""
    labels, shown = labels_of(compared), rows[:MOST_ROWS]
    columns = _columns(labels)
    bold = {name: _best(rows, spread, lower) for name, spread, lower, _, _ in columns}
    if best := _best_answers(rows):
        bold["Exact match"] = best
    head: list[object] = ["Group", *(name for name, *_ in columns), "Trained weights"]
    body = [_group_row(row, rows[0], columns, bold) for row in shown]
    if len(rows) == 2:
        body.append(_difference_row(rows[0], rows[1], columns))
    caption = "" if len(rows) <= MOST_ROWS else f"The first {MOST_ROWS} of {len(rows):,} groups; the file has all."
    table = cards.table(head, body, caption=caption, numbers=range(1, len(head)))
    more = cards.join("Bold where the best is beyond chance. ", cards.link(asked.csv("scores"), "CSV"))
    what = cards.what_is_this("exact match", "held out", "loss", "trained weights", "sign test")
    return section("Scores", more, cards.join(Markup(table.replace("hy-table'", "hy-table hy-scores'")), what))


Column = tuple[str, Callable[[Row], Spread | None], bool, Callable[[float], str], Callable[[float], str]]


def _columns(labels: list[str]) -> list[Column]:
    """Title, spread of a row, whether less is better, and how a value and a difference of it are written."""

    def of_label(name: str) -> Callable[[Row], Spread | None]:
        return lambda row: row.by_label.get(name)

    def share(value: float) -> str:
        return f"{100 * value:.0f} %"

    columns: list[Column] = [("Exact match", lambda row: row.exact, False, lambda v: f"{100 * v:.1f} %", points)]
    columns += [(name, of_label(name), False, share, lambda v: points(v, 0)) for name in labels]
    columns += [
        ("Held-out loss", lambda row: row.loss, True, lambda v: f"{v:.3f}", lambda v: _signed(v, 3)),
        ("Minutes", lambda row: row.seconds, True, lambda v: f"{v / MINUTE:.1f}", lambda v: _signed(v / MINUTE, 1)),
        ("Tokens/s", lambda row: row.speed, False, lambda v: f"{v:,.0f}", lambda v: _signed(v, 0)),
        (
            "Peak memory",
            lambda row: row.peak,
            True,
            lambda v: f"{v / MB:,.0f} MB",
            lambda v: f"{_signed(v / MB, 0)} MB",
        ),
    ]
    return columns


def _signed(value: float, digits: int) -> str:
    written = f"{value:+,.{digits}f}".replace("-", "−")
    return "0" if written.strip("+−0.") == "" else written


def _best(rows: list[Row], spread: Callable[[Row], Spread | None], lower: bool) -> int | None:
    """The index of the group that is best beyond chance over the runs; None where there is none."""
    found = [(one, row) for row in rows if (one := spread(row)) is not None]
    if len(found) < 2 or len(found) != len(rows):
        return None
    found.sort(key=lambda one: one[0].mean if lower else -one[0].mean)
    difference = apart(found[1][0], found[0][0])
    return found[0][1].group.index if difference is not None and difference[1] else None


def _best_answers(rows: list[Row]) -> int | None:
    """The same of exact match, by the questions."""
    ranked = sorted((row for row in rows if row.exact), key=lambda row: -row.exact.mean if row.exact else 0.0)
    if len(ranked) < 2:
        return None
    found = exact_difference(ranked[1].group, ranked[0].group, comparisons=len(ranked) - 1)
    return ranked[0].group.index if found is not None and found[0].told == "more" else None


def _group_row(row: Row, first: Row, columns: list[Column], bold: dict[str, int | None]) -> list[object]:
    cells: list[object] = [cards.join(chip(row.group), Markup(f"<i>{row.group.runs_words}</i>"))]
    for name, spread, _, words, _ in columns:
        found = spread(row)
        if found is None:
            cells.append("–")
            continue
        value = escape(words(found.mean))
        shown = f"<b>{value}</b>" if bold[name] == row.group.index else value
        sd = f"<i>± {_without_unit(words(found.sd))}</i>" if found.sd is not None else ""
        cells.append(Markup(shown + sd))
    return [*cells, _weights(row, first)]


def _without_unit(words: str) -> str:
    return escape(words.removesuffix(" %").removesuffix(" MB"))


def _weights(row: Row, first: Row) -> object:
    """Trained weights with the router's, what of them is the router, and how that compares with the first group."""
    if not row.weights:
        return "–"
    more = [f"{row.router.mean:,.0f} router"] if row.router and row.router.mean else ["no router"]
    if row is not first and first.weights:
        times = row.weights / first.weights
        if times != 1:
            size = (
                f"{times:.1f} times"
                if times >= 2
                else f"{100 * abs(times - 1):.0f} % {'more' if times > 1 else 'fewer'}"
            )
            more.append(size)
    return Markup(f"{row.weights:,.0f}<i>{', '.join(more)}</i>")


def _difference_row(first: Row, second: Row, columns: list[Column]) -> list[object]:
    """The second group less the first, open where chance would do."""
    what = Markup(f"<b>Difference</b><i>{escape(second.group.name)} − {escape(first.group.name)}</i>")
    cells: list[object] = [what]
    for name, spread, _, _, words in columns:
        if name == "Exact match" and (found := exact_difference(first.group, second.group)) is not None:
            cells.append(_told(found[0]))
            continue
        difference = apart(spread(first), spread(second))
        if difference is None:
            cells.append("–")
        else:
            value, is_told = difference
            cells.append(Markup(f"<b>{escape(words(value))}</b>" if is_told else f"{escape(words(value))}<i>open</i>"))
    weights = (second.weights or 0) - (first.weights or 0)
    return [*cells, _signed(weights, 0) if first.weights and second.weights else "–"]


def _told(found: Difference) -> Markup:
    """A difference of exact match in points with its interval, and what may be said of it."""
    value = points(found.value)
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f"{points(found.low)} to {points(found.high)}"
    if found.told in ("more", "less"):
        return Markup(f"<b>{value}</b><i>{interval}</i>")
    return Markup(f"{value}<i>{interval}, {found.told}</i>")


def settings_section(compared: Compared, asked: Asked) -> Markup:
    """Only what differs, by group."""
    found = settings_by_group(compared)
    count = compared.same_count
    same = f"{count:,} other {'setting is' if count == 1 else 'settings are'} the same."
    if ROWS not in compared.differing:
        hashes = {line.summary.training_hash[:12] for line in compared.lines if line.summary}
        same += f" Same rows: fingerprint {hashes.pop()}." if len(hashes) == 1 and hashes != {""} else ""
    if not found:
        return section("What differs in the settings", "", cards.note("info", "Nothing differs.", same))
    if len(compared.groups) > MOST_COLUMNS:
        rows: list[list[object]] = [[title(name), _values(values)] for name, values in found]
        head: list[object] = ["Setting", "Values"]
    else:
        rows = [[title(name), *(_values(value.split(", ")) for value in values)] for name, values in found]
        head = ["Setting", *(chip(group) for group in compared.groups)]
    table = cards.table(head, rows)
    more = cards.link(asked.csv("settings"), "CSV")
    return section("What differs in the settings", more, cards.join(table, Markup(f"<p class='hy-quiet'>{same}</p>")))


def _values(values: list[str]) -> str:
    """Different values, the first of many."""
    found = list(dict.fromkeys(values))
    return ", ".join(found[:MOST_VALUES]) + (
        f" and {len(found) - MOST_VALUES} more" if len(found) > MOST_VALUES else ""
    )


def clusters_section(compared: Compared, rows: list[ClusterRow], why: str, asked: Asked) -> Markup:
    """Exact match of each group in each cluster; differences that the questions cannot tell are open."""
    heading = "Exact match by cluster"
    if not rows:
        return section(heading, "", cards.note("info", "There is nothing to show.", why))
    groups = [group for group in compared.groups if group.scores][:MOST_COLUMNS]
    head: list[object] = ["Cluster", "Questions", *(chip(group) for group in groups)]
    two = rows[0].apart is not None
    head += ["Difference"] if two else []
    body: list[list[object]] = []
    for row in rows:
        shares = [f"{100 * share:.0f} %" for share in row.shares[: len(groups)]]
        name = cards.join(cards.cluster(row.number), Markup(f" {escape(row.name.partition(' ')[2])}"))
        body.append([name, row.questions, *shares, *([_told(row.apart)] if row.apart else [])])
    more = cards.join("On the questions that all were asked. ", cards.link(asked.csv("clusters"), "CSV"))
    table = cards.table(head, body, numbers=range(1, len(head)))
    return section(heading, more, Markup(table.replace("hy-table'", "hy-table hy-scores'")))
