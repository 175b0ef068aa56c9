"""The engines that walk cells: `ray_engine` by double description, `simplex_engine` by linear programs."""
