"""An atlas goes out, and parts of it come in: push to a dataset repository or a store, pull from either.

`selection` says what is published, `limits` what a host allows and what a push costs, `hub` and `place` are the two
kinds of destination, `push` and `pull` the two ways.
"""
