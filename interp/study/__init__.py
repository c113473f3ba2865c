"""What a study is: a configuration in, tables, figures, sounds and an answer out; see :class:`Study`."""

from interp.study.cache import once, slug, step
from interp.study.config import Common
from interp.study.page import Drawing
from interp.study.study import Study, main

__all__ = ["Common", "Drawing", "Study", "main", "once", "slug", "step"]
