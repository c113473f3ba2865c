"""How the files that ship were made: each recipe reproduces one of them from a seed.

Nothing else imports from here; the music that ruins are made of, and what a judge is trained and measured on, is code
that a user of the package never needs.
"""
