"""Programs that try to make a server lose or spoil data. See docs/reliability.md; each runs as a module of its own."""
