"""Runtimes other than llama.cpp: what each can be told, what that takes, and how fast it is.

A module per runtime yields every setting that it understands on a machine; the fastest one that
fits is a choice of one out of many, which is proven by looking at all of them.
"""
