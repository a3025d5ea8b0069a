//! Tables and properties of `plan`; filled with the simulation.
