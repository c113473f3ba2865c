"""What a study is: a configuration in, tables, figures, sounds and an answer out; see :class:`Study`."""

from interp._files import slug
from interp.study.cache import once, step
from interp.study.config import Common
from interp.study.page import Drawing
from interp.study.study import Study, main

__all__ = ["Common", "Drawing", "Study", "main", "once", "slug", "step"]


def __dir__() -> list[str]:
    return __all__
