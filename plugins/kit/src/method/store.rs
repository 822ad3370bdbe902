//! Files on the target that a method reads and keeps.

use std::io::ErrorKind;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command::{Run, change};
use crate::target;
use crate::types::{Error, Fault};

/// Reads a file of the service by its path inside it; none when it has no such file.
pub type Reader<'a> = &'a dyn Fn(&str) -> Result<Option<String>, Error>;

/// Reads the service's folder, as it is on this side.
///
/// # Errors
/// When the file is there and cannot be read as text.
pub fn from_service(path: &str) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(format!("/service/{path}")) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::request(
            format!("read the service's {path}"),
            error,
            "check that it is a readable UTF-8 file, and that this step has the grant `service.read`",
        )),
    }
}

/// Reads a release's files, as they are on the target.
pub fn from_target(files: &str) -> impl Fn(&str) -> Result<Option<String>, Error> {
    move |path| read_text(&format!("{files}/{path}"))
}

/// Whether anything is at a path on the target.
///
/// # Errors
/// Those of the call.
pub fn there(path: &str) -> Result<bool, Error> {
    target::stat(path).map(|attributes| attributes.is_some())
}

/// A text file on the target; none when nothing is there.
///
/// # Errors
/// Those of the call. Bytes that are not UTF-8 are replaced.
pub fn read_text(path: &str) -> Result<Option<String>, Error> {
    if !there(path)? {
        return Ok(None);
    }
    target::read_file(path).map(|bytes| Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// What `write_json` kept; none when nothing is there.
///
/// # Errors
/// When the file is not what this version of the plugin writes.
pub fn read_json<T: DeserializeOwned>(path: &str) -> Result<Option<T>, Error> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Error::target(
            format!("read {path}, which an earlier step wrote"),
            error,
            "deploy again; if the file was edited by hand, undo the edit first",
        )
    })
}

/// Keeps a value in a file on the target, all or nothing.
///
/// # Errors
/// Those of the call.
pub fn write_json<T: Serialize>(path: &str, value: &T) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Error::new(Fault::Plugin, format!("write {path}"), error, "report this to the plugin's authors")
    })?;
    if let Some((parent, _)) = path.rsplit_once('/') {
        folder(parent)?;
    }
    target::write_file(path, format!("{text}\n").as_bytes(), 0o644)
}

/// Makes a folder on the target, and those above it.
///
/// # Errors
/// When it cannot be made.
pub fn folder(path: &str) -> Result<(), Error> {
    change(["mkdir", "-p", path])
        .checked(
            &format!("create the folder {path}"),
            "check that the SSH user may write there, and that the disk is not full",
        )
        .map(drop)
}
