//! Tables and properties of `report`; filled with the simulation.
