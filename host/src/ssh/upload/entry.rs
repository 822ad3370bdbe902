//! What is uploaded, how far it is, and what came of it.

use std::time::Duration;

/// One thing to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadEntry {
    /// Relative to the source and to the destination, with `/` between names.
    pub path: String,
    pub kind: UploadKind,
    /// Permission bits; a link has none of its own.
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadKind {
    File {
        /// In bytes.
        size: u64,
        /// In lower-case hexadecimal.
        sha256: String,
    },
    Link {
        target: String,
    },
    Directory,
}

/// What the target has acknowledged in this upload so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub files: u64,
    pub bytes: u64,
}

/// A finished upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    pub files: u64,
    pub bytes: u64,
    pub links: u64,
    /// How often the connection was lost on the way.
    pub reconnects: u32,
    pub duration: Duration,
}
