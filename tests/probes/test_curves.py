"""Learning curves and confusion tables."""

from __future__ import annotations

import pytest
from planted_data import planted_dataset
from sklearn.metrics import balanced_accuracy_score

from interp import plots
from interp.errors import DataError
from interp.probes import confusion_table, learning_curve, probe


def test_the_learning_curve_rises_and_ends_where_probe_does() -> None:
    ds, _ = planted_dataset(n_groups=60, strength=1.5)
    table = learning_curve(ds, "drums", sites="L1.H1, L0.H0", methods=["ridge"], repeats=4, n_bootstrap=200)
    curve = table[table["site"] == "L1.H1"].set_index("n_groups")
    assert curve.index.tolist() == [3, 6, 11, 22, 45] or curve.index.is_monotonic_increasing
    assert curve["test_score"].iloc[-1] > curve["test_score"].iloc[0] + 0.05
    assert (curve["repeats"].iloc[:-1] == 4).all()
    whole = probe(ds, "drums", sites="L1.H1", methods=["ridge"], n_permutations=0).table.iloc[0]
    assert curve["test_score"].iloc[-1] == pytest.approx(whole["test_score"])
    assert curve["n_train"].iloc[-1] == whole["n_train"]
    flat = table[table["site"] == "L0.H0"]
    assert ((flat["lo"] < 0.5) & (flat["hi"] > 0.5)).all()
    assert plots.learning_curve(table, by="site").get_xlabel() == "Training clips"
    graded = learning_curve(ds, "tempo", sites="L1.H3", methods=["ridge"], sizes=[0.2, 1.0], repeats=2)
    assert (graded["score"] == "r2").all()
    for sizes, sentence in [([0.0], "above 0"), ([2.0], "up to 1"), ([0.001], "ask for larger sizes")]:
        with pytest.raises(DataError, match=sentence):
            learning_curve(ds, "drums", sites="L1.H1", sizes=sizes)


@pytest.mark.parametrize(("trait", "site"), [("drums", "L1.H1"), ("genre", "L1.H2")])
def test_the_confusion_table_gives_the_score_back(trait: str, site: str) -> None:
    ds, _ = planted_dataset(n_groups=40)
    result = probe(ds, trait, methods=["ridge", "lda"], n_permutations=0)
    for method in result.methods:
        table = confusion_table(result, site, method)
        row = result.table[(result.table["site"] == site) & (result.table["method"] == method)].iloc[0]
        assert balanced_accuracy_score(table["true"], table["predicted"]) == pytest.approx(row["test_score"])
        assert len(table) == row["n_test"]
    assert confusion_table(result)["site"].iloc[0] == result.ranking()["site"][0] == site
    assert plots.confusion(confusion_table(result)).get_xlabel() == "Predicted"
    with pytest.raises(DataError, match="was not probed"):
        confusion_table(result, "L9.H9")
    with pytest.raises(DataError, match="graded"):
        confusion_table(probe(ds, "tempo", methods="ridge", n_permutations=0))
