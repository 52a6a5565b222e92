"""`python -m tests.pictures`: docs/images/grafana-*.png, of the dashboards' own queries.

No Grafana is at hand here, so the pictures are plots of what its panels ask a real Prometheus. That
one scrapes three programs whose server is killed, and later one program alone whose way to it is
cut off, sixty times as fast as in production: a second stands for a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where what tests share is found

from .drawing import draw
from .story import told

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    """Tell the story, and draw each dashboard as it was in the end."""
    from moorings.grafana.dashboards import BOARDS

    with told() as seen:
        for board in BOARDS:
            file = IMAGES / f"grafana-{board.uid.removeprefix('moorings-')}.png"
            draw(board, seen, file)
            print(file)


if __name__ == "__main__":
    main()
