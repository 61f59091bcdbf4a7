"""The runtime bundle: what every microVM is started with, whatever environment it runs.

`bundle` finds and checks the bundle that the product uses. Everything else here makes one: `build` is the program, and
each of the other modules knows one thing that goes in.
"""
