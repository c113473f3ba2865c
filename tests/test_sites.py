"""Sites: every description gives sites that there are, in forward order, or a sentence."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import SiteError
from interp.model import MusicGen
from interp.sites import KINDS, ModelShape, Site, select_sites

SHAPE = ModelShape(4, 3, 12)
SHAPES = st.builds(ModelShape, st.integers(1, 5), st.integers(1, 4), st.just(16), cross_attention=st.booleans())
NUMBER = st.integers(-3, 7).map(str) | st.sampled_from(["*", "0-2", "1-0", "0--1", "-2--1", "00", "99999999999", "٣"])
WORDS = st.one_of(
    st.sampled_from([*KINDS, "all", "embed", "", " ", "top:8", "Resid", "L", "L0", "L0.", "L0.H", "L1.X", "L0.mlp.H1"]),
    st.builds("L{}.{}".format, NUMBER, st.sampled_from(["resid", "attn", "mlp", "cross", "heads", "cross_heads", "q"])),
    st.builds("L{}.H{}".format, NUMBER, NUMBER),
    st.builds("L{}.X.H{}".format, NUMBER, NUMBER),
    st.text("L0123456789.XH*-, resid", max_size=10),
    st.text(max_size=6),
)


def names(spec: object, there: object = SHAPE) -> list[str]:
    return [str(site) for site in select_sites(spec, there)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "sites"),
    [
        ("L0-2.resid", ["L0.resid", "L1.resid", "L2.resid"]),
        ("L3.H*", ["L3.H0", "L3.H1", "L3.H2"]),
        ("L3.heads", ["L3.H0", "L3.H1", "L3.H2"]),
        ("L3.H0-1", ["L3.H0", "L3.H1"]),
        ("L-1.resid", ["L3.resid"]),
        ("L-2--1.mlp", ["L2.mlp", "L3.mlp"]),
        ("L*.X.H2", ["L0.X.H2", "L1.X.H2", "L2.X.H2", "L3.X.H2"]),
        ("L1-2.H1-2", ["L1.H1", "L1.H2", "L2.H1", "L2.H2"]),
        (" L1.resid ,, embed, ", ["embed", "L1.resid"]),
        (["L1.resid,", Site("embed")], ["embed", "L1.resid"]),
        ("resid, L0.H1, L2.resid", ["L0.H1", "L0.resid", "L1.resid", "L2.resid", "L3.resid"]),
    ],
)
def test_shorthands(spec: object, sites: list[str]) -> None:
    assert names(spec) == sites


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("top:8", "'top:8' is not a site: it takes the best of directions"),
        ("L9.resid", r"no site L9\.resid: the model has layers 0 to 3"),
        ("L0-9.resid", r"no site L4\.resid: the model has layers 0 to 3"),
        ("L0.H0-9", r"no site L0\.H3: a layer of the model has heads 0 to 2"),
        ("L-5.resid", "covers nothing"),
        ("L2-1.resid", "covers nothing"),
        ("", "no site is selected"),
        (", ,", "no site is selected"),
        ([], "no site is selected"),
        ("Resid", "cannot read 'Resid'"),
        ("L1.H1234567", "cannot read"),
        ([3], "not 3"),
    ],
)
def test_what_is_no_site_gets_a_sentence(spec: object, sentence: str) -> None:
    with pytest.raises(SiteError, match=sentence):
        names(spec)


def test_among_the_sites_of_a_dataset() -> None:
    """Kinds and stars take what there is; numbers must be there."""
    there = select_sites("L0-2.resid, L1.H1, L1.H2", SHAPE)
    assert names("all", there) == ["L0.resid", "L1.H1", "L1.H2", "L1.resid", "L2.resid"]
    assert names("L1.H*, L-1.resid", there) == ["L1.H1", "L1.H2", "L2.resid"]
    for spec in ("L3.resid", "L1.H0", "L1.H0-2", "mlp", "L2.H1"):
        with pytest.raises(SiteError, match=r"the dataset has no sites? .*only 2 heads \(L1\.H1 to L1\.H2\), 3 resid"):
            select_sites(spec, there, "the dataset")
    with pytest.raises(SiteError, match="no cross-attention"):
        names("L0.cross", ModelShape(2, 2, 8, cross_attention=False))


def test_one_site_is_not_several() -> None:
    for text in ("heads", "all", "L0-2.resid", "L3.H*", "L-1.resid"):
        with pytest.raises(SiteError, match="not one site but a description of several"):
            Site.parse(text)


@settings(max_examples=3000, deadline=None)
@given(st.lists(WORDS, max_size=4), SHAPES, st.sampled_from([",", ", ", " ,,"]), st.booleans())
def test_any_text_is_sites_that_there_are_or_a_sentence(
    words: list[str], shape: ModelShape, comma: str, joined: bool
) -> None:
    try:
        sites = select_sites(comma.join(words) if joined else words, shape)
    except SiteError as error:
        assert str(error).endswith(".") and "\n" not in str(error).replace(repr(words), "")
        return
    assert sites and sites == sorted(set(sites)) and set(sites) <= set(shape.sites())
    assert select_sites(", ".join(map(str, sites)), shape) == sites == select_sites("all", sites)
    assert [Site.parse(str(site)) for site in sites] == sites


def test_a_forward_pass_reads_descriptions(tiny_lm_model: MusicGen) -> None:
    """One string is one description, not its letters."""
    model = tiny_lm_model
    codes = torch.zeros(1, model.n_codebooks, 4, dtype=torch.long)
    for read in ("L-1.H0-1, L0.resid", ["L-1.H0-1", Site("resid", 0)]):
        values = model.predict(codes, read=read).values
        assert [str(site) for site in values] == ["L0.resid", "L2.H0", "L2.H1"]
    with pytest.raises(SiteError, match=r"no site L9\.resid: the model has layers 0 to 2"):
        model.predict(codes, read="L9.resid")
