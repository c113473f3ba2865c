"""The class and the method are part of a choice of directions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.directions import Direction, Directions
from interp.errors import DataError, InterpError, InterventionError, SiteError
from interp.steering import Ablate, Add, Clamp, Interpolate, Smitin

SITES = ("L0.H0", "L0.H1", "L2.H3", "L1.resid")


def directions(trait: str, *classes: str, methods: tuple[str, ...] = ("logistic", "ridge")) -> Directions:
    rng = np.random.default_rng(0)
    return Directions(
        Direction.from_weight(
            site, rng.standard_normal(8), trait=trait, positive=name, method=method, sigma=1.0, intercept=0.0,
            score=0.5 + i / 10,
        )
        for method in methods
        for name in classes
        for i, site in enumerate(SITES)
    )  # fmt: skip


GENRES = directions("genre", "jazz", "rock")


def test_one_class_of_several() -> None:
    genre = directions("genre", "jazz", "pop", "rock")
    jazz = genre.choose("genre=jazz", "ridge", "top:2")
    assert [str(d.site) for d in jazz] == ["L2.H3", "L0.H1"]  # heads, each once, the best first
    assert jazz.unique("positive") == ["jazz"] and jazz.unique("method") == ["ridge"]
    assert [str(d.site) for d in genre.choose("genre=pop", "ridge", "heads")] == ["L0.H0", "L0.H1", "L2.H3"]
    assert [str(d.site) for d in genre.choose("genre=pop", "ridge", "L1.resid, L0.H1,")] == ["L0.H1", "L1.resid"]
    layers = Directions(d for d in genre if d.site.kind == "resid")
    assert len(layers.choose("genre=pop", "ridge", "top:1")) == 1
    for trait, method, sites, error, says in [
        ("genre", "ridge", "top:2", DataError, "3 classes of 'genre': write genre=jazz or genre=pop or genre=rock"),
        ("genre=folk", "ridge", "top:2", DataError, "no direction of trait 'genre=folk'"),
        ("drums", "ridge", "top:2", DataError, "no direction of trait 'drums'"),
        ("genre=jazz", None, "top:2", DataError, "choose one of logistic, ridge"),
        ("genre=jazz", "lda", "top:2", DataError, "by method 'lda': choose one of logistic, ridge"),
        ("genre=jazz", "ridge", "top:9", SiteError, "of 3 heads: write top:1 to top:3"),
        ("genre=jazz", "ridge", "top:x", SiteError, "write top:1 to top:3"),
        ("genre=jazz", "ridge", "L7.H0", SiteError, "no site L7.H0"),
        ("genre=jazz", "ridge", ",", SiteError, "no site"),
    ]:
        with pytest.raises(error, match=says):
            genre.choose(trait, method, sites)
    with pytest.raises(SiteError, match="of 1 sites: write top:1 to top:1"):
        layers.choose("genre=pop", "ridge", "top:8")


def test_a_class_that_stands_in_the_trait_is_the_same_class() -> None:
    piano = directions("instrument=piano", "piano", methods=("ridge",))
    assert len(piano.choose("instrument=piano", sites="heads")) == 3
    with pytest.raises(DataError, match="no direction of trait 'instrument'"):
        piano.choose("instrument")
    drums = directions("drums", "1", methods=("ridge",))
    assert len(drums.choose("drums", sites="heads")) == 3


def test_a_push_along_several_classes_or_methods_raises_unless_asked_for() -> None:
    genre = directions("genre", "jazz", "rock", methods=("ridge",))
    two = directions("drums", "1")
    by_site = Directions(sorted(two, key=lambda d: d.site))
    for make in (
        lambda d: Add(d, dose=2.0),
        lambda d: Interpolate(d, 0.5),
        lambda d: Clamp(d, low=0.0),
        lambda d: Smitin(Directions(x for x in d if x.site.kind == "heads")),
        lambda d: Smitin(directions("bass", "1", methods=("ridge",))[:1], monitor=Directions(d)),
    ):
        with pytest.raises(InterventionError, match=r"2 classes of 'genre' at once \(jazz, rock"):
            make(genre)
        with pytest.raises(InterventionError, match=r"2 methods at L0\.H0"):
            make(by_site)
    # different sites, different classes: still one push towards both
    with pytest.raises(InterventionError, match="2 classes"):
        Add(Directions([genre[0], genre[5]]), dose=1.0)
    both = Add(genre, dose=2.0, mixture=True)
    assert np.allclose(both.numbers[genre[0].site]["shift"], 2 * (genre[0].vector + genre[4].vector))
    assert Ablate.project(genre).sites  # several classes span what is to be taken away
    # other traits, and other methods elsewhere, are no mixture
    Add(Directions([*two.select(method="ridge"), *genre.select(positive="jazz")]), dose=1.0)
    Add(Directions([two[0], two[5]]), dose=1.0)


def test_the_class_is_said() -> None:
    push = Add(directions("genre", "jazz", "rock").choose("genre=rock", "ridge", "heads"), dose=1.0)
    assert "genre=rock (ridge)" in push.describe()
    piano = directions("instrument=piano", "piano", methods=("ridge",))
    assert "add instrument=piano (ridge) by" in Add(piano, dose=1.0).describe()


@settings(max_examples=800, deadline=None)
@given(
    trait=st.one_of(st.text(max_size=12), st.sampled_from(["genre", "genre=jazz", "genre=jazz|rock", "drums"])),
    method=st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["ridge", "logistic"])),
    sites=st.one_of(st.text(max_size=12), st.from_regex(r"(top:\d{0,3}|L-?\d\.(H\d|resid|H\*)|,| )+", fullmatch=True)),
)
def test_any_words_give_directions_or_a_sentence(trait: str, method: str | None, sites: str) -> None:
    try:
        chosen = GENRES.choose(trait, method, sites)
    except InterpError as error:
        assert str(error) and "\n" not in str(error).replace(repr(trait), "").replace(repr(sites), "")
    else:
        assert len(chosen) == len({d.site for d in chosen}) > 0
        Add(chosen, dose=1.0)  # one class, one method: never a mixture
