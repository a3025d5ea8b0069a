//! What patches are called (R28).
//!
//! A patch travels as an artifact of its own, with a single file, named after the artifacts it leads from
//! and to. So whoever holds one knows what it is for, and nothing has to be written down beside it. Its
//! content is told in the crate `pack`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::artifact::{Manifest, What};
use crate::id::Digest;
use crate::statement::ArtifactRef;

/// Patches to one artifact that are told of at a time.
pub const PATCHES_MAX: usize = 8;

/// Which artifact a patch leads from, and to which. As text, the name of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PatchName {
    pub from: Digest,
    pub to: Digest,
}

/// A patch that a member holds, to an artifact that was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchOffer {
    /// The artifact that it starts from.
    pub from: Digest,
    /// The artifact that it is.
    pub patch: ArtifactRef,
}

impl PatchName {
    /// Of the patch with this manifest; none: it is no patch.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        match manifest.entries.as_slice() {
            [entry] if matches!(entry.what, What::File { .. }) => entry.path.parse().ok(),
            _ => None,
        }
    }
}

impl fmt::Display for PatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}-{:#}.patch", self.from, self.to)
    }
}

impl FromStr for PatchName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (from, to) =
            text.strip_suffix(".patch").and_then(|ids| ids.split_once('-')).ok_or(())?;
        let name = Self { from: from.parse().map_err(drop)?, to: to.parse().map_err(drop)? };
        // One name in one form.
        (name.to_string() == text).then_some(name).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r28_names_of_patches() {
        let name = PatchName { from: Digest::of(b"one"), to: Digest::of(b"two") };
        let text = name.to_string();
        assert_eq!(text.parse(), Ok(name));
        assert!(crate::artifact::check_path(&text).is_ok());
        for other in
            ["", "-.patch", "bin/web", &text[1..], &text.to_uppercase(), &format!("{text} ")]
        {
            assert_eq!(other.parse::<PatchName>(), Err(()), "{other}");
        }
    }
}
