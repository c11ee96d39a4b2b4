"""A row that a maintainer reviews, and entries of the file of reviews about it."""

from factories import seeds

from leaderboard.reviews import content_of

WORD = "word_level.2-2.quick.0badcafe"
PLAIN = "baseline.2-2.quick.0badcafe"
ROW = seeds("word_level", [13.0, 14.0, 15.0])
CONTENT = content_of(ROW)

ENTRY = f"""[[review]]
dataset = "synthetic"
row = "{WORD}"
verdict = "re-scored"
by = "A. Maintainer"
date = 2026-01-02
note = "All was well."
content = "{CONTENT}"
"""
SUPERSEDED = ENTRY.replace("re-scored", "superseded").replace(f'content = "{CONTENT}"\n', "")
