//! A directory as an artifact, and back (R26). The format is told in [`proto::artifact`].
//!
//! | function | from | to |
//! |---|---|---|
//! | [`pack`] | a directory | a manifest, and the pieces one after the other |
//! | [`extract_tar`] | a `.tar.zst` that somebody built | a directory to pack |
//! | [`unpack`] | a manifest and pieces from anywhere | a directory, whole and durable, or nothing |
//! | [`unpack_beside`] | the same and directories of earlier artifacts | with what they have copied from there |
//! | [`make_patch`] | two archives | what turns the files of the one into those of the other |
//! | [`Patch`] | a patch and the old directory | the new directory, as [`unpack`] does |
//! | [`Repacker`] | a manifest and its directory | the pieces again |
//! | [`verify_tree`] | a manifest and a directory | whether it is still exactly that |
//! | [`Lookout`] | the same, again and again | what differs, at little cost |
//!
//! Input is hostile on both sides: whatever could reach outside the tree, or be more than a plain
//! file, directory or link in it, is refused when it is packed and again when it is unpacked.
//! Memory stays within the file table and a few pieces, whatever the input.
//!
//! **Absent:** network, async.

mod archive;
mod changed;
mod frame;
mod lookout;
mod pack;
mod patch;
mod refusal;
mod stage;
mod tar;
mod tree;
mod unpack;
mod walk;

pub use archive::{Archive, GetPiece, Repacker};
pub use changed::{Tree, pieces_beside};
pub use frame::FrameError;
pub use lookout::{Drift, GivenUp, Lookout};
pub use pack::{PackError, artifact_ref, pack};
pub use patch::{Made, MakeError, Patch, PatchError, make_patch};
pub use refusal::Refusal;
pub use tar::{TarError, extract_tar};
pub use tree::{TreeError, verify_tree};
pub use unpack::{UnpackError, unpack, unpack_beside};
pub use walk::WalkError;
