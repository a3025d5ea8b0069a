//! What an artifact never carries, with the remedy.

use std::fs::FileType;
use std::os::unix::fs::FileTypeExt;

/// Why a path cannot be part of an artifact. Reads on after `PATH: `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a device: leave it out, an artifact holds files, directories and links")]
    Device,
    #[error("a named pipe: leave it out, an artifact holds files, directories and links")]
    Fifo,
    #[error("a socket: leave it out, an artifact holds files, directories and links")]
    Socket,
    #[error("an archive entry of type {0:?}: leave it out, or publish the directory instead")]
    EntryType(char),
    #[error("setuid or setgid: no artifact carries that; remove it (chmod ug-s)")]
    SetId,
    #[error("a hard link: archive it as a file of its own (tar --hard-dereference)")]
    HardLink,
    #[error("a sparse file: archive it without holes (tar without --sparse)")]
    Sparse,
    #[error("its name is not UTF-8: rename it")]
    NotUtf8,
    #[error("its link target is not UTF-8: link to another name")]
    LinkNotUtf8,
    #[error("stands in the archive twice, or both as a directory and as something else")]
    Twice,
    #[error("the path {0}")]
    Path(&'static str),
}

impl Refusal {
    /// For what is neither file, directory nor link.
    pub(crate) fn of_type(kind: FileType) -> Self {
        if kind.is_fifo() {
            Self::Fifo
        } else if kind.is_socket() {
            Self::Socket
        } else {
            Self::Device
        }
    }
}
