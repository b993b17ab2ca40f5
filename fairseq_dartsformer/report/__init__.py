"""The report of a search: what its save folder holds (:mod:`.run`), as one page (:mod:`.page`)."""
