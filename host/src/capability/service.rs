//! What WASI does not say of the service's folder. The folder's content comes through the sandbox's preopen.

use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use serde_json::json;

use super::call::{Host, Made};
use super::grant::Call;
use super::record::Effect;
use crate::stage::bindings::deployer::pipeline::service;
use crate::stage::{Error, Fault};

const BITS: u32 = 0o777;

impl service::Host for Host {
    async fn permissions(&mut self, paths: Vec<String>) -> wasmtime::Result<Result<Vec<u32>, Error>> {
        let arguments = json!({ "paths": paths.len() });
        self.make(Call::Permissions, Effect::Reads, arguments, |step, _| {
            Box::pin(async move {
                let Some(folder) = step.context.service_dir.clone() else {
                    return Err(unreadable("the folder", "this step has no service folder"));
                };
                let read = tokio::task::spawn_blocking(move || permissions(&folder, &paths));
                let found = read.await.map_err(|error| unreadable("the folder", &error.to_string()))??;
                Ok(Made::plain(found))
            })
        })
        .await
    }
}

fn permissions(folder: &Path, paths: &[String]) -> Result<Vec<u32>, Error> {
    paths
        .iter()
        .map(|path| {
            if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(unreadable(path, "it is no path inside the folder"));
            }
            let found = folder.join(path).symlink_metadata();
            found
                .map(|found| found.permissions().mode() & BITS)
                .map_err(|error| unreadable(path, &error.to_string()))
        })
        .collect()
}

fn unreadable(path: &str, why: &str) -> Error {
    Error {
        fault: Fault::Request,
        attempted: format!("read the permissions of {path} in the service's folder"),
        seen: why.into(),
        next: "leave the folder as it is while it is deployed, and deploy again".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_inside_the_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        let file = folder.path().join("bin/run");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).unwrap();
        let read = |path: &str| permissions(folder.path(), &[path.to_owned()]);
        assert_eq!(read("bin/run").unwrap(), [0o750]);
        for path in ["../x", "/etc/passwd", "bin/../../x", "nothing"] {
            assert!(read(path).is_err(), "{path}");
        }
    }
}
