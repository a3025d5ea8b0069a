//! Tables and properties of `gate`; filled with the simulation.
