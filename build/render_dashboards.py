"""Writes deploy/grafana anew from the table of metrics. `make dashboards` runs it."""

from __future__ import annotations

from pathlib import Path

from trireme.observe.dashboards import DASHBOARDS
from trireme.observe.dashboards.grafana import write_dashboard

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana"


def rendered() -> dict[str, str]:
    """Name of each file -> its text."""
    return {f"{one.uid.removeprefix('trireme-')}.json": write_dashboard(one) for one in DASHBOARDS}


def main() -> None:
    """Writes them, and removes what is none of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    texts = rendered()
    for path in FOLDER.glob("*.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"deploy/grafana: {', '.join(texts)}")


if __name__ == "__main__":
    main()
