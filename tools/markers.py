"""The part of a Markdown page between two marker lines, which a tool writes."""

from unsay.errors import UserError


def replace_between(page: str, begin: str, end: str, text: str, where: str) -> str:
    """The page with `text` in place of what stood between two markers.

    Args:
        page: Markdown.
        begin: the marker above, an HTML comment.
        end: the marker below.
        text: what goes between them.
        where: names the page in the error.

    Raises:
        UserError: the markers are not there exactly once each, in this order.
    """
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise UserError(f"{where}: needs the lines '{begin}' and '{end}' once each, in this order")
    return f"{page.partition(begin)[0]}{begin}\n{text}\n{end}{page.partition(end)[2]}"
