"""Who runs the LM: one module of seams for each library that builds it.

:mod:`~interp.backends.audiocraft` is the only module that imports audiocraft, and knows where a site sits in its
layers; :mod:`~interp.backends.build` makes models of any size, :mod:`~interp.backends.checkpoints` reads them from
files, and :mod:`~interp.backends.untrained` draws one anew.
"""
