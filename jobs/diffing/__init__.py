"""Two models of one architecture, or two versions of an atlas, compared by what their tables hold."""
