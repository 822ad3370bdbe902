//! The demo's SSH server, used by a client that keeps many requests in flight, as the deployer does.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use deployer::demo::sshd::Sshd;
use futures::future::try_join_all;
use russh::client::{self, Handle, Handler};
use russh::keys::{PrivateKeyWithHashAlg, load_secret_key};
use russh::{ChannelMsg, Sig};
use russh_sftp::client::RawSftpSession;
use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};

#[tokio::test]
async fn many_small_files_are_written_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Sshd::start(folder.path(), "demo").await?;
    let connection = connect(&server).await?;
    let sftp = Arc::new(open_sftp(&connection).await?);
    let root = folder.path().join("files").display().to_string();
    sftp.mkdir(&root, FileAttributes { permissions: Some(0o750), ..FileAttributes::empty() }).await?;

    let writes = (0..500_u32).map(|number| {
        let (sftp, path) = (sftp.clone(), format!("{root}/{number}"));
        async move {
            let flags = OpenFlags::CREATE | OpenFlags::WRITE | OpenFlags::TRUNCATE;
            let mode = FileAttributes { permissions: Some(0o640), ..FileAttributes::empty() };
            let handle = sftp.open(path, flags, mode).await?.handle;
            sftp.write(handle.clone(), 0, number.to_string().repeat(3000).into_bytes()).await?;
            sftp.fsync(handle.clone()).await?;
            sftp.close(handle).await?;
            Ok::<_, Error>(())
        }
    });
    tokio::time::timeout(Duration::from_secs(60), try_join_all(writes))
        .await
        .context("the writes hang")??;
    for number in 0..500_u32 {
        let path = folder.path().join("files").join(number.to_string());
        assert_eq!(fs::read_to_string(&path)?, number.to_string().repeat(3000));
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o7777, 0o640);
    }
    server.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_extensions_do_what_openssh_s_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Sshd::start(folder.path(), "demo").await?;
    let connection = connect(&server).await?;
    let sftp = open_sftp(&connection).await?;
    let path = |name: &str| folder.path().join(name).display().to_string();

    assert_eq!(sftp.limits().await?.max_write_len, 255 * 1024);
    assert!(sftp.statvfs(path(".")).await?.blocks > 0);

    fs::write(path("old"), "old")?;
    fs::write(path("new"), "new")?;
    sftp.hardlink(path("old"), path("linked")).await?;
    assert_eq!(fs::metadata(path("linked"))?.ino(), fs::metadata(path("old"))?.ino());
    // The plain rename refuses to replace; OpenSSH's replaces, in one step.
    assert_eq!(status(sftp.rename(path("new"), path("old")).await), Some(StatusCode::Failure));
    let names = [path("new"), path("old")]
        .map(|name| [(name.len() as u32).to_be_bytes().as_slice(), name.as_bytes()].concat());
    sftp.extended("posix-rename@openssh.com", names.concat()).await?;
    assert_eq!(fs::read_to_string(path("old"))?, "new");
    assert!(!fs::exists(path("new"))?);

    // The target comes first, as OpenSSH's server has it.
    sftp.symlink("old", path("current")).await?;
    assert_eq!(fs::read_link(path("current"))?.to_string_lossy(), "old");
    assert_eq!(
        sftp.readlink(path("current")).await?.files.first().map(|file| file.filename.clone()),
        Some("old".to_owned())
    );
    let lstat = sftp.lstat(path("current")).await?.attrs;
    assert_eq!(lstat.permissions.map(|mode| mode & 0o170_000), Some(0o120_000));
    assert_eq!(sftp.stat(path("current")).await?.attrs.size, Some(3));

    let wanted = FileAttributes {
        size: Some(1),
        permissions: Some(0o4711),
        atime: Some(1_000_000_000),
        mtime: Some(1_500_000_000),
        ..FileAttributes::empty()
    };
    sftp.setstat(path("old"), wanted).await?;
    let seen = fs::metadata(path("old"))?;
    assert_eq!((seen.len(), seen.mode() & 0o7777, seen.mtime()), (1, 0o4711, 1_500_000_000));

    assert_eq!(status(sftp.stat(path("absent")).await), Some(StatusCode::NoSuchFile));
    assert_eq!(status(sftp.stat(path("old/below")).await), Some(StatusCode::NoSuchFile));
    assert_eq!(status(sftp.opendir(path("old")).await), Some(StatusCode::NoSuchFile));
    assert_eq!(status(sftp.close("no such").await), Some(StatusCode::Failure));
    assert_eq!(
        status(sftp.extended("unheard-of", Vec::new()).await),
        None,
        "no extended reply is an error packet"
    );
    let real = sftp.realpath(path("./x/../current")).await;
    assert_eq!(status(real), Some(StatusCode::NoSuchFile));
    let real = sftp.realpath(path("./not-yet")).await?;
    assert_eq!(
        real.files.first().map(|file| file.filename.clone()),
        Some(fs::canonicalize(folder.path())?.join("not-yet").display().to_string())
    );

    let exclusive = OpenFlags::CREATE | OpenFlags::WRITE | OpenFlags::EXCLUDE;
    assert_eq!(
        status(sftp.open(path("old"), exclusive, FileAttributes::empty()).await),
        Some(StatusCode::Failure)
    );
    let handle = sftp.open(path("old"), OpenFlags::READ, FileAttributes::empty()).await?.handle;
    assert_eq!(sftp.read(&handle, 0, 100).await?.data.len(), 1);
    assert_eq!(status(sftp.read(&handle, 1, 100).await), Some(StatusCode::Eof));
    server.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_signal_reaches_the_command_and_its_children() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Sshd::start(folder.path(), "demo").await?;
    let connection = connect(&server).await?;
    let mut channel = connection.channel_open_session().await?;
    channel.exec(true, "sleep 100 & echo ready; wait").await?;
    let mut seen = Vec::new();
    let listen = async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { .. } => channel.signal(Sig::TERM).await?,
                ChannelMsg::ExitSignal { signal_name, .. } => seen.push(format!("{signal_name:?}")),
                // Comes only once nobody holds the output: the sleep has ended too.
                ChannelMsg::Eof => seen.push("eof".to_owned()),
                ChannelMsg::Close => seen.push("close".to_owned()),
                _ => {}
            }
        }
        Ok::<_, russh::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(30), listen).await.context("the channel stays open")??;
    assert_eq!(seen, ["TERM", "eof", "close"]);
    server.stop().await;
    Ok(())
}

struct TrustAll;

impl Handler for TrustAll {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _key: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn connect(server: &Sshd) -> Result<Handle<TrustAll>> {
    let mut connection =
        client::connect(Arc::new(client::Config::default()), server.address(), TrustAll).await?;
    let key = load_secret_key(server.key_file(), None)?;
    let admitted =
        connection.authenticate_publickey("demo", PrivateKeyWithHashAlg::new(Arc::new(key), None)).await?;
    ensure!(admitted.success(), "the server's own key is refused");
    Ok(connection)
}

async fn open_sftp(connection: &Handle<TrustAll>) -> Result<RawSftpSession> {
    let channel = connection.channel_open_session().await?;
    channel.request_subsystem(true, "sftp").await?;
    let sftp = RawSftpSession::new(channel.into_stream());
    let version = sftp.init().await?;
    for name in ["posix-rename", "fsync", "statvfs", "limits", "hardlink"] {
        ensure!(version.extensions.contains_key(&format!("{name}@openssh.com")), "{name} is not offered");
    }
    Ok(sftp)
}

fn status<T>(answer: Result<T, Error>) -> Option<StatusCode> {
    match answer {
        Err(Error::Status(status)) => Some(status.status_code),
        _ => None,
    }
}
