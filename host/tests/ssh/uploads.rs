use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use deployer::ssh::{Fault, Progress, SshError, UploadEntry, UploadKind, Uploaded};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::server::{Server, set_mode};

fn tree() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn put(tree: &TempDir, path: &str, bytes: &[u8]) {
    let path = tree.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Bytes that do not repeat early.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u8
        })
        .collect()
}

/// What is below a directory.
fn entries(root: &Path) -> Vec<UploadEntry> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for inside in folder.read_dir().unwrap() {
            let path = inside.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let (kind, mode) = if metadata.is_symlink() {
                let target = std::fs::read_link(&path).unwrap().to_str().unwrap().into();
                (UploadKind::Link { target }, 0)
            } else if metadata.is_dir() {
                folders.push(path.clone());
                (UploadKind::Directory, mode)
            } else {
                let bytes = std::fs::read(&path).unwrap();
                let (size, sha256) = (bytes.len() as u64, hex::encode(Sha256::digest(&bytes)));
                (UploadKind::File { size, sha256 }, mode)
            };
            let path = path.strip_prefix(root).unwrap().to_str().unwrap().into();
            found.push(UploadEntry { path, kind, mode });
        }
    }
    found
}

fn by_path(entries: &[UploadEntry]) -> BTreeMap<&str, &UploadEntry> {
    entries.iter().map(|entry| (entry.path.as_str(), entry)).collect()
}

async fn upload(
    server: &Server,
    tree: &TempDir,
    entries: &[UploadEntry],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Uploaded, SshError> {
    server.ssh().upload(tree.path(), entries, &server.remote("releases/new"), progress).await
}

#[tokio::test]
async fn a_tree_arrives_as_it_is() {
    let server = Server::start();
    let tree = tree();
    for number in 0..2000 {
        put(&tree, &format!("many/{}/{number}.txt", number % 20), format!("{number}").as_bytes());
    }
    put(&tree, "empty", b"");
    put(&tree, "large", &noise(20_000_000));
    put(&tree, "edges/32768", &noise(32_768));
    put(&tree, "edges/32769", &noise(32_769));
    put(&tree, "edges/131072", &noise(131_072));
    put(&tree, "edges/131073", &noise(131_073));
    put(&tree, "a b/größe 'and' \"more\" $(x)", b"name");
    put(&tree, "bin/run", b"#!/bin/sh\n");
    put(&tree, "bin/odd", b"mode");
    put(&tree, "closed/file", b"in a directory that may not be written to");
    std::fs::create_dir(tree.path().join("bare")).unwrap();
    symlink("../empty", tree.path().join("bin/link")).unwrap();
    symlink("/etc/passwd", tree.path().join("out")).unwrap();
    symlink("nowhere", tree.path().join("dangling")).unwrap();
    set_mode(&tree.path().join("bin/run"), 0o755);
    set_mode(&tree.path().join("bin/odd"), 0o666);
    set_mode(&tree.path().join("closed"), 0o555);
    set_mode(&tree.path().join("edges"), 0o2770);
    let sent = entries(tree.path());
    let files = sent.iter().filter(|entry| matches!(entry.kind, UploadKind::File { .. })).count() as u64;

    let last = std::sync::Mutex::new(Progress::default());
    let note = |progress: Progress| {
        let mut last = last.lock().unwrap();
        *last = Progress { files: last.files.max(progress.files), bytes: last.bytes.max(progress.bytes) };
    };
    let uploaded = upload(&server, &tree, &sent, &note).await.unwrap();
    assert_eq!(by_path(&entries(&server.path("releases/new"))), by_path(&sent));
    assert_eq!((uploaded.files, uploaded.links, uploaded.reconnects), (files, 3, 0));
    assert_eq!(*last.lock().unwrap(), Progress { files, bytes: uploaded.bytes });
    println!("2,000 small files and 20 MB: {:?}", uploaded.duration);

    // Again, over what is there: the outcome is the same.
    upload(&server, &tree, &sent, &|_| ()).await.unwrap();
    assert_eq!(by_path(&entries(&server.path("releases/new"))), by_path(&sent));
    set_mode(&tree.path().join("closed"), 0o755);
    set_mode(&server.path("releases/new/closed"), 0o755);
}

#[tokio::test]
async fn what_is_in_the_way_is_replaced_and_what_it_leads_to_is_not() {
    let server = Server::start();
    let tree = tree();
    put(&tree, "linked", b"new");
    put(&tree, "shared", b"new");
    put(&tree, "was-directory", b"new");
    put(&tree, "directory/file", b"new");
    symlink("linked", tree.path().join("link")).unwrap();
    let sent = entries(tree.path());

    let to = server.path("releases/new");
    std::fs::create_dir_all(to.join("was-directory/with")).unwrap();
    std::fs::create_dir_all(server.path("elsewhere")).unwrap();
    for name in ["linked-to", "shared-with", "elsewhere/file"] {
        std::fs::write(server.path(name), "another release's").unwrap();
    }
    symlink(server.path("linked-to"), to.join("linked")).unwrap();
    std::fs::hard_link(server.path("shared-with"), to.join("shared")).unwrap();
    symlink(server.path("elsewhere"), to.join("directory")).unwrap();
    std::fs::write(to.join("link"), "a file").unwrap();

    upload(&server, &tree, &sent, &|_| ()).await.unwrap();
    assert_eq!(by_path(&entries(&to)), by_path(&sent));
    for name in ["linked-to", "shared-with", "elsewhere/file"] {
        assert_eq!(std::fs::read(server.path(name)).unwrap(), b"another release's", "{name}");
    }
}

#[tokio::test]
async fn a_file_that_changes_is_never_taken_for_what_it_was() {
    let server = Server::start();
    let check = async |path: &str, change: &dyn Fn(&Path), how: &str| {
        let tree = tree();
        put(&tree, "folder/small", b"what it was");
        put(&tree, "large", &noise(1_000_000));
        let sent = entries(tree.path());
        change(&tree.path().join(path));
        let error = upload(&server, &tree, &sent, &|_| ()).await.unwrap_err();
        let SshError::Changed { path: which, .. } = &error else { panic!("{path} {how}: {error}") };
        assert_eq!(which, path);
        let text = error.to_string();
        assert!(text.contains("changed while it was being sent") && text.contains(how), "{text}");
        assert_eq!(error.fault(), Fault::Request);
    };
    let write = |bytes: &'static [u8]| move |path: &Path| std::fs::write(path, bytes).unwrap();
    check("folder/small", &write(b"what it is!"), "is different").await;
    check("folder/small", &write(b"shorter"), "7 bytes").await;
    check("folder/small", &write(b"longer than it was"), "more than 11").await;
    check("large", &|path| std::fs::write(path, vec![0; 1_000_000]).unwrap(), "is different").await;
    check("large", &|path| std::fs::write(path, noise(1_000_001)).unwrap(), "more than").await;
    check("large", &write(b"short"), "5 bytes").await;
    check("folder/small", &|path| std::fs::remove_file(path).unwrap(), "gone").await;
    let link = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        symlink("/etc/passwd", path).unwrap();
    };
    check("folder/small", &link, "symbolic link").await;
    let moved = |path: &Path| {
        let folder = path.parent().unwrap();
        let outside = folder.parent().unwrap().join("moved");
        std::fs::rename(folder, &outside).unwrap();
        symlink(&outside, folder).unwrap();
    };
    check("folder/small", &moved, "symbolic link").await;
    let pipe = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    check("folder/small", &pipe, "not a file").await;
}

#[tokio::test]
async fn bad_entries_are_refused_before_anything_is_sent() {
    let server = Server::start();
    let tree = tree();
    for path in ["../up", "/etc/passwd", "a/../../b", ""] {
        let entry = UploadEntry { path: path.into(), kind: UploadKind::Directory, mode: 0o755 };
        let error = upload(&server, &tree, &[entry], &|_| ()).await.unwrap_err();
        assert!(matches!(error, SshError::BadEntry { .. }), "{error}");
    }
    assert!(!server.path("releases").exists());
    let missing = tree.path().join("missing");
    let error = server.ssh().upload(&missing, &[], "/tmp", &|_| ()).await.unwrap_err();
    assert!(matches!(error, SshError::SourceUnreadable { .. }), "{error}");
}

/// Sends a tree and does something to the server at each quarter of the way.
async fn interrupted(server: Server, interrupt: impl Fn(&mut Server) + Send + Sync) -> Uploaded {
    let tree = tree();
    for number in 0..1500 {
        put(&tree, &format!("many/{number}"), &noise(100 + number));
    }
    for number in 0..4 {
        put(&tree, &format!("large/{number}"), &noise(5_000_000 + number));
    }
    let sent = entries(tree.path());
    let total: u64 = sent
        .iter()
        .map(|entry| match entry.kind {
            UploadKind::File { size, .. } => size,
            _ => 0,
        })
        .sum();
    let next = AtomicU64::new(total / 4);
    let busy = AtomicBool::new(false);
    let destination = server.remote("releases/new");
    let ssh = server.ssh();
    let server = std::sync::Mutex::new(server);
    let progress = |progress: Progress| {
        let at = next.load(Ordering::Relaxed);
        if progress.bytes >= at && at < total && !busy.swap(true, Ordering::Relaxed) {
            next.store(at + total / 4, Ordering::Relaxed);
            interrupt(&mut server.lock().unwrap());
            busy.store(false, Ordering::Relaxed);
        }
    };
    let uploaded = ssh.upload(tree.path(), &sent, &destination, &progress).await.unwrap();
    assert_eq!(by_path(&entries(Path::new(&destination))), by_path(&sent));
    assert_eq!(uploaded.bytes, total);
    uploaded
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_its_connection_is_cut() {
    let uploaded = interrupted(Server::start(), |server| server.cut()).await;
    assert!(uploaded.reconnects >= 1, "{uploaded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_the_server_is_restarted() {
    let uploaded = interrupted(Server::start(), Server::restart).await;
    assert!(uploaded.reconnects >= 1, "{uploaded:?}");
}

#[tokio::test]
async fn an_upload_needs_no_more_than_one_session_besides_the_reserved_ones() {
    let server = Server::start_with(&["ed25519"], "MaxSessions 3");
    let tree = tree();
    for number in 0..200 {
        put(&tree, &format!("{number}"), &noise(number));
    }
    let sent = entries(tree.path());
    upload(&server, &tree, &sent, &|_| ()).await.unwrap();
    assert_eq!(by_path(&entries(&server.path("releases/new"))), by_path(&sent));
}
