"""Folds, one a collection: the groups of documents that collectors count."""
