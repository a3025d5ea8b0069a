//! What layers two and three of the simulation both stand on: the clocks of machines, the end of a
//! network at which a real QUIC endpoint listens, and the people who sign.

pub(crate) mod machine;
pub(crate) mod people;
pub(crate) mod socket;
