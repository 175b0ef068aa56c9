"""Side by side with other tools: every comparison on the same machine, in the same run. See `README.md`."""
