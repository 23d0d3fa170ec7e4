"""What is said of a training on votes: while it goes on, and when it is done."""

from .loop import AlignReport, Look
from .voted import Found

WORSE = 0.05
"""Growth of the better images' own error from which on images suffer visibly."""


def found_words(found: Found) -> str:
    """How many votes there are, and which ballots teach nothing."""
    votes = sum(len(group.shares) for group in found.groups)
    words = f"{votes} votes on {len(found.groups)} groups"
    if found.without:
        words += f"; {found.without} ballots have votes but no latents, and teach nothing"
    return words


def progress(report: AlignReport) -> str:
    """An update in one line, with the winner's own error beside the accuracy."""
    look = report.look
    words = f"update {report.update}: loss {report.loss:.4g}"
    if look is None or not look.pairs:
        return words
    return (
        f"{words}; of {look.pairs} pairs that are held out {look.accuracy:.0%} are told apart, the better image's own "
        f"error changed by {look.better:+.1%}"
    )


def verdict(look: Look | None) -> str:
    """One sentence on the last look."""
    if look is None or not look.pairs:
        return "no pairs are held out: compare the pictures from before and after"
    if look.better > WORSE:
        return (
            f"the better images' own error grew by {look.better:.0%}: it tells pairs apart by drawing the worse one "
            "worse still, and images suffer; take the form nft, a larger beta, or fewer updates"
        )
    if look.accuracy <= 0.5:
        return "pairs that are held out are not told apart: more votes, or more updates"
    return f"{look.accuracy:.0%} of the pairs that are held out are told apart, the better images being drawn as before"
