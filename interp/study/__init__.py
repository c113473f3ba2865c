"""What a study is: a configuration in, tables, figures, sounds and an answer out; see :class:`Study`."""

from interp.study.cache import step
from interp.study.config import Common, Generating
from interp.study.study import Study, main

__all__ = ["Common", "Generating", "Study", "main", "step"]
