"""Networks: two-slice and static graphical models become worlds, and worlds become graphs."""
