"""Trains and evaluates: `loop.train_and_evaluate(config, workdir)`, one page under headings.

One jitted step on a mesh with the axes 'data' and 'model', from one device to many hosts. The
state is a plain dictionary of arrays; a checkpoint holds it, the position in the data, and a
description that makes it readable without the run. What is trained leaves as a `rsjax.bundle`;
nothing here is imported by `rsjax.mapping`.
"""
