"""A table of a million rows (1,536 heads x 10 methods x 65 settings) is drawn and written in seconds."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from interp import plots, tables


def test_a_million_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [range(48), range(32), [f"method_{i}" for i in range(10)], range(65)],
        names=["layer", "head", "method", "setting"],
    )
    table = index.to_frame(index=False)
    table.insert(0, "site", "L" + table["layer"].astype(str) + ".H" + table["head"].astype(str))
    table["test_score"] = rng.uniform(0.4, 1.0, len(table))
    table["lo"], table["hi"], table["chance"] = table["test_score"] - 0.05, table["test_score"] + 0.05, 0.5
    assert len(table) == 998_400
    seconds = {}
    for name, call in {
        "heat map": lambda: plots.save(plots.heatmap(table, reduce="mean"), tmp_path / "heat"),
        "ranking": lambda: plots.save(plots.ranking(table[table["method"] == "method_0"], top=1536), tmp_path / "rank"),
        "ranking, all rows": lambda: plots.save(plots.ranking(table, method="method_1", top=66_000), tmp_path / "all"),
        "CSV, Markdown, LaTeX": lambda: tables.write(table, tmp_path / "table"),
    }.items():
        start = time.perf_counter()
        call()
        seconds[name] = time.perf_counter() - start
    print("\n" + tables.to_markdown(pd.DataFrame({"task": list(seconds), "seconds": list(seconds.values())}), digits=2))
    assert max(seconds.values()) < 20
