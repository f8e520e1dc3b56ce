"""The studio: a page on this machine to see, prune, snap, compare, export and publish a network.

    kanserve studio models            # or a network's file, or a table with --target

`app.application` is the page and its calls (starlette), `process.run` the process that serves them on
127.0.0.1, `workspace.Workspace` what the calls do: a `kanserve.Session` whose refits run in worker processes. The page
itself is built from the folder `studio` of the repository into `static`. It is never part of `kanserve serve`.
"""
