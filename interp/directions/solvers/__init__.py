"""Solvers of linear probes for many sites, folds, penalties and labellings at once."""
