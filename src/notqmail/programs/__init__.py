"""One thin main for each installed program: argv, environment, descriptors -> one agent -> exit code."""
