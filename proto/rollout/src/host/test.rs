//! Tables and properties of `host`; filled with the simulation.
