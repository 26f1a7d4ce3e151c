"""Execution: plan, Ray, commit and resume, the command line."""
