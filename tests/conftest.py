"""What holds for all tests."""

from hypothesis import settings

# a shared machine pauses a test for longer than any example takes: only what a test says decides
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
