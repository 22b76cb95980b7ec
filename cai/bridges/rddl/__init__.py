"""RDDL: problems of the planning competitions become worlds."""
