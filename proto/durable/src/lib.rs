//! What is on disk after the power was cut: the only crate that knows about `fsync`.
//!
//! [`Disk`] is the file system as a list of steps whose order matters, with a real side
//! ([`RealDisk`]) and a simulated one ([`SimDisk`]) that can lose whatever was not synced, fill up, or
//! fail ([`Fault`]).
//! [`replace`] and [`replace_link`] are the two ways to change what stands at a path so that a
//! reader, or the next boot, finds the old or the new, whole. Key files have functions of their
//! own ([`create_secret`], [`read_secret`]): mode 0600, never overwritten.
//!
//! **Absent:** network, async, any word of Groundswell's own.

mod disk;
mod read;
mod real;
mod replace;
mod secret;
mod sim;
mod tree;

pub use disk::{Disk, Kind};
pub use read::read_bounded;
pub use real::RealDisk;
pub use replace::{ReplaceError, is_leftover, replace, replace_link};
pub use secret::{SecretError, create_secret, make_secret_dir, read_secret};
pub use sim::{Fault, SimDisk};
pub use tree::{PlaceError, place_tree};
