"""Grading a class's notebooks: found (submissions), run apart (sandbox, worker), judged (verdicts), told (report)."""
