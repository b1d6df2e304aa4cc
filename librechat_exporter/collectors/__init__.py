"""One file per family; its metrics and their pipelines stand together in it."""
