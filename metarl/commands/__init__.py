"""The command-line commands, one module each; `metarl.cli` imports the one that is used."""
