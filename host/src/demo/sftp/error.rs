//! Why a request was not done, and the status that says so.

use std::io;

use russh_sftp::protocol::StatusCode;
use rustix::io::Errno;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error("end of file")]
    End,
    #[error("no such handle: it was closed, or this server never gave it")]
    Handle,
    #[error("not a request that this server understands: {0}")]
    Malformed(String),
    #[error("{0} is not supported by this server")]
    Unsupported(String),
}

impl RequestError {
    /// As OpenSSH's server translates them.
    pub fn code(&self) -> StatusCode {
        match self {
            RequestError::File(error) => match Errno::from_io_error(error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP) => StatusCode::NoSuchFile,
                Some(Errno::PERM | Errno::ACCESS | Errno::FAULT) => StatusCode::PermissionDenied,
                Some(Errno::NAMETOOLONG | Errno::INVAL) => StatusCode::BadMessage,
                Some(Errno::NOSYS) => StatusCode::OpUnsupported,
                Some(_) | None => StatusCode::Failure,
            },
            RequestError::End => StatusCode::Eof,
            RequestError::Handle => StatusCode::Failure,
            RequestError::Malformed(_) => StatusCode::BadMessage,
            RequestError::Unsupported(_) => StatusCode::OpUnsupported,
        }
    }
}
