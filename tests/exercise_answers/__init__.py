"""Answers that readers might give, by chapter: WRONG with what each is told, OTHER that are right in another form."""
