"""A flag of many commands, in words; without any import, for the list of commands."""

IMPORT = "--import"
IMPORT_WORDS = (
    "--import MODULE (repeatable) makes the classes of a Python module known; the working folder is searched first."
)
