"""Whether choosing by a reward makes better students: data sets chosen in several ways, a student of each, and what the
students have learnt beyond style."""
