//! Tables and properties of `receipts`; filled with the simulation.
