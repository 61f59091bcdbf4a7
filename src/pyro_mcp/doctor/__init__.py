"""`pyro doctor`: proves what this host can do, and says what mends it where it cannot.

One file per check, or per few that look at the same thing. `checks` lists them in the order in which they are shown,
`run` runs them all at once.
"""
