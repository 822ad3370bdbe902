use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use deployer::ssh::{Kind, RemoteCommand, SshError, Stat};

use crate::server::{Server, set_mode};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn names(path: &Path) -> Vec<String> {
    let entries = path.read_dir().unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_is_written_whole_with_its_mode_and_read_back() {
    let server = Server::start();
    let ssh = server.ssh();
    ssh.make_directory(&server.remote("a b/ü/c"), 0o700).await.unwrap();
    assert_eq!(mode(&server.path("a b/ü")), 0o700);
    ssh.make_directory(&server.remote("a b/ü/c"), 0o755).await.unwrap();
    assert_eq!(mode(&server.path("a b/ü/c")), 0o700);

    let path = server.remote("a b/ü/c/file");
    let large: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    for (bytes, mode_wanted) in [(&b"secret"[..], 0o600), (b"", 0o666), (&large[..], 0o755)] {
        ssh.write_file(&path, bytes, mode_wanted).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(mode(Path::new(&path)), mode_wanted);
        assert_eq!(ssh.read_file(&path, bytes.len() as u64).await.unwrap(), bytes);
    }
    assert_eq!(names(&server.path("a b/ü/c")), ["file"]);

    let error = ssh.read_file(&path, 1000).await.unwrap_err();
    assert!(matches!(error, SshError::TooLarge { limit: 1000, .. }), "{error}");
    let error = ssh.read_file(&server.remote("nothing"), 1000).await.unwrap_err();
    assert!(matches!(error, SshError::NotFound { .. }), "{error}");
    let error = ssh.write_file(&server.remote("no/where"), b"", 0o600).await.unwrap_err();
    assert!(matches!(error, SshError::NotFound { .. }), "{error}");
    let error = ssh.make_directory(&server.remote("id/x"), 0o700).await.unwrap_err();
    assert!(error.to_string().contains("is not a directory"), "{error}");
}

#[tokio::test]
async fn a_secret_is_never_readable_by_others_and_leaves_nothing_behind() {
    let server = Server::start();
    let ssh = server.ssh();
    std::fs::create_dir(server.path("env")).unwrap();
    // A wide-open file is in its place, and a directory where it cannot go.
    std::fs::write(server.path("env/release"), "old").unwrap();
    set_mode(&server.path("env/release"), 0o666);
    std::fs::create_dir(server.path("env/taken")).unwrap();

    let watched = server.path("env");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watching = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut seen = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in watched.read_dir().unwrap().flatten() {
                    let Ok(metadata) = entry.metadata() else {
                        continue;
                    };
                    if entry.file_name().to_str().unwrap().starts_with('.') {
                        assert_eq!(metadata.permissions().mode() & 0o077, 0);
                        seen += 1;
                    }
                }
            }
            seen
        })
    };
    let secret = vec![b'x'; 300_000];
    for _ in 0..20 {
        ssh.write_file(&server.remote("env/release"), &secret, 0o600).await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(watching.join().unwrap() > 0, "the temporary file was never seen");
    assert_eq!(mode(&server.path("env/release")), 0o600);

    ssh.write_file(&server.remote("env/taken"), &secret, 0o600).await.unwrap_err();
    let path = server.path("env");
    crate::server::until("the temporary file is gone", || names(&path) == ["release", "taken"]).await;
}

#[tokio::test]
async fn links_renames_and_removals_do_what_they_say() {
    let server = Server::start();
    let ssh = server.ssh();
    for release in ["one", "two"] {
        ssh.make_directory(&server.remote(release), 0o755).await.unwrap();
        ssh.write_file(&server.remote(&format!("{release}/name")), release.as_bytes(), 0o644).await.unwrap();
        ssh.write_link(&server.remote("current"), release).await.unwrap();
        let name = ssh.read_file(&server.remote("current/name"), 100).await.unwrap();
        assert_eq!(name, release.as_bytes());
    }
    let link = ssh.stat(&server.remote("current")).await.unwrap().unwrap();
    assert_eq!((link.kind, link.size), (Kind::Link, 3));
    let file = ssh.stat(&server.remote("one/name")).await.unwrap();
    assert_eq!(file, Some(Stat { kind: Kind::File, size: 3, mode: 0o644 }));
    assert_eq!(ssh.stat(&server.remote("one")).await.unwrap().unwrap().kind, Kind::Directory);
    assert_eq!(ssh.stat(&server.remote("nothing")).await.unwrap(), None);

    ssh.rename(&server.remote("one/name"), &server.remote("two/name")).await.unwrap();
    assert_eq!(std::fs::read(server.path("two/name")).unwrap(), b"one");
    let error = ssh.rename(&server.remote("one/name"), &server.remote("two/name")).await.unwrap_err();
    assert!(matches!(error, SshError::NotFound { .. }), "{error}");

    // The link, not what it leads to; then a tree with awkward names; then what is gone.
    ssh.remove(&server.remote("current")).await.unwrap();
    assert!(server.path("two/name").exists());
    std::fs::create_dir_all(server.path("two/-rf/a b")).unwrap();
    std::fs::write(server.path("two/-rf/a b/$(x)"), "").unwrap();
    for _ in 0..2 {
        ssh.remove(&server.remote("two")).await.unwrap();
        assert!(!server.path("two").exists());
    }
    for path in ["/", "", "//", "relative", "/tmp/../etc", "/tmp/."] {
        let error = ssh.remove(path).await.unwrap_err();
        assert!(matches!(error, SshError::BadPath { .. }), "{path}: {error}");
    }
}

#[tokio::test]
async fn free_space_is_that_of_the_nearest_directory_with_or_without_the_extension() {
    let with = Server::start();
    let without =
        Server::start_with(&["ed25519"], "Subsystem sftp internal-sftp -P statvfs,posix-rename,fsync");
    for server in [with, without] {
        let ssh = server.ssh();
        let free = ssh.free_bytes(&server.remote("not/yet/there")).await.unwrap();
        let df = RemoteCommand::new(["df", "-Pk", &server.remote("")]);
        let df = ssh.run(&df, &mut ()).await.unwrap().stdout;
        let expect = df.split_whitespace().rev().nth(2).unwrap().parse::<u64>().unwrap() * 1024;
        // Others use the disk meanwhile.
        assert!(free.abs_diff(expect) < 1 << 30, "{free} {expect}");

        ssh.write_file(&server.remote("file"), b"one", 0o600).await.unwrap();
        ssh.write_file(&server.remote("file"), b"two", 0o600).await.unwrap();
        assert_eq!(std::fs::read(server.path("file")).unwrap(), b"two");
    }
}

#[tokio::test]
async fn a_server_without_sftp_is_told() {
    let server = Server::start_with(&["ed25519"], "Subsystem other /bin/true");
    let error = server.ssh().stat("/").await.unwrap_err();
    assert!(matches!(error, SshError::NoSftp { .. }), "{error}");
    assert!(error.to_string().contains("Subsystem sftp"), "{error}");
    let server = Server::start_with(&["ed25519"], "Subsystem sftp /no/such/program");
    let error = server.ssh().stat("/").await.unwrap_err();
    assert!(matches!(error, SshError::NoSftp { .. }), "{error}");
}
