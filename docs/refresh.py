"""Rewrite every page that is made from code or figures: settings, man pages, demo and benchmark in README.md."""

from __future__ import annotations

import make_bench
import make_config
import make_demo
import make_man


def main() -> None:
    """Write what changed and say so."""
    for maker in (make_config, make_man, make_bench, make_demo):
        for path, text in maker.pages().items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
                print(f"rewritten: {path.name}")


if __name__ == "__main__":
    main()
