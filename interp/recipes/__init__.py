"""How the files that ship were made: each recipe reproduces one of them from a seed.

Nothing else imports from here; the music that ruins are made of, and what a judge is trained and measured on, is code
that a user of the package never needs. What takes hours is a module that runs, ``python -m interp.recipes.codec
FOLDER``: its folder lies outside of the package, and a run that was stopped goes on where it stopped.
"""
