"""Embedded data: pictures drawn by formula, so that every factor behind them is known."""
