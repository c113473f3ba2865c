"""Who runs the LM: one module of seams for each library that builds it.

:mod:`~interp.backends.audiocraft` is the only module that imports audiocraft, and knows where a site sits in its
layers; :mod:`~interp.backends.transformers` reads and writes transformers' checkpoints of the same models.
:mod:`~interp.backends.checkpoints` finds and reads a model in either format, :mod:`~interp.backends.adapters` merges a
LoRA into it, :mod:`~interp.backends.build` makes models of any size, and :mod:`~interp.backends.untrained` draws one
anew.
"""
