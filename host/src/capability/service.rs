//! What WASI does not say of the service's folder. The folder's content comes through the sandbox's preopen.

use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, statat};
use serde_json::json;

use super::call::{Made, View};
use super::folder::ServiceFolder;
use super::grant::Call;
use super::record::Effect;
use crate::contract::bindings::deployer::pipeline::service;
use crate::contract::{Error, Fault};

const BITS: u32 = 0o777;

/// The service's folder, where the step has one.
pub struct Service(pub(super) Option<ServiceFolder>);

impl service::Host for View<'_, Service> {
    async fn permissions(&mut self, paths: Vec<String>) -> wasmtime::Result<Result<Vec<u32>, Error>> {
        let arguments = json!({ "paths": paths.len() });
        self.make(Call::Permissions, Effect::Reads, arguments, |service, _| {
            Box::pin(look(service, move |folder| permissions(folder, &paths)))
        })
        .await
    }

    async fn unlisted(&mut self, folder: String) -> wasmtime::Result<Result<Vec<String>, Error>> {
        let arguments = json!({ "folder": folder });
        self.make(Call::Unlisted, Effect::Reads, arguments, |service, _| {
            Box::pin(look(service, move |root| unlisted(root, &folder)))
        })
        .await
    }
}

/// Looks at the service's folder, where there is one.
async fn look<T: Send + 'static>(
    service: &Service,
    look: impl FnOnce(&ServiceFolder) -> Result<T, Error> + Send + 'static,
) -> Result<Made<T>, Error> {
    let Some(folder) = service.0.clone() else {
        return Err(unreadable("the folder", "this step has no service folder"));
    };
    let looked = tokio::task::spawn_blocking(move || look(&folder));
    let found = looked.await.map_err(|error| unreadable("the folder", &error.to_string()))??;
    Ok(Made::plain(found))
}

fn permissions(folder: &ServiceFolder, paths: &[String]) -> Result<Vec<u32>, Error> {
    paths
        .iter()
        .map(|path| {
            let inside = Path::new(path);
            let straight = inside.components().all(|part| matches!(part, Component::Normal(_)));
            let (true, Some(parent), Some(name)) = (straight, inside.parent(), inside.file_name()) else {
                return Err(unreadable(path, "it is not a path inside the folder"));
            };
            let failed = |error: std::io::Error| unreadable(path, &error.to_string());
            let parent = folder.inner(parent).map_err(failed)?;
            let found =
                statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| failed(error.into()))?;
            Ok(found.st_mode & BITS)
        })
        .collect()
}

fn unlisted(root: &ServiceFolder, folder: &str) -> Result<Vec<String>, Error> {
    let failed = |error: std::io::Error| unreadable(folder, &error.to_string());
    let place = root.inner(Path::new(folder)).map_err(failed)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&place).map_err(|error| failed(error.into()))? {
        let entry = entry.map_err(|error| failed(error.into()))?;
        let name = entry.file_name();
        if name.to_str().is_err() {
            names.push(escaped(name.to_bytes()));
        }
    }
    names.sort();
    Ok(names)
}

/// A name as a person can find it: what is text in it, and the other bytes by their numbers.
fn escaped(name: &[u8]) -> String {
    let part = |chunk: std::str::Utf8Chunk<'_>| {
        let bytes = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        chunk.valid().to_owned() + &bytes.collect::<String>()
    };
    name.utf8_chunks().map(part).collect()
}

fn unreadable(path: &str, why: &str) -> Error {
    Error {
        fault: Fault::Request,
        attempted: format!("look at {path} in the service's folder"),
        seen: why.into(),
        next: "deploy again, and do not change the folder meanwhile".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn bits_are_read_inside_the_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        let file = folder.path().join("bin/run");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("out")).unwrap();
        let opened = ServiceFolder::open(folder.path()).unwrap();
        let read = |path: &str| permissions(&opened, &[path.to_owned()]);
        assert_eq!(read("bin/run").unwrap(), [0o750]);
        for path in ["../x", "/etc/passwd", "bin/../../x", "nothing", "out/passwd", ""] {
            assert!(read(path).is_err(), "{path}");
        }
    }

    #[test]
    fn names_that_are_no_text_are_told_inside_the_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join("data/plain"), "").unwrap();
        for name in [b"caf\xe9.txt".as_slice(), b"\xff\xfeb"] {
            std::fs::write(folder.path().join("data").join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
        }
        std::os::unix::fs::symlink("/etc", folder.path().join("out")).unwrap();
        let opened = ServiceFolder::open(folder.path()).unwrap();
        assert_eq!(unlisted(&opened, "data").unwrap(), [r"\xff\xfeb", r"caf\xe9.txt"]);
        assert!(unlisted(&opened, "").unwrap().is_empty());
        for outside in ["..", "/etc", "out", "data/../.."] {
            assert!(unlisted(&opened, outside).is_err(), "{outside}");
        }
    }
}
