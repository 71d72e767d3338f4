"""What operators type: one file a topic, each a typer app that `cli` puts under its name.

A command reads its words, asks the admin listener (`common.ask_admin`) and shows the answer, for people or as JSON.
Nothing here opens the store or decides anything.
"""
