use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use deployer::ssh::{Credentials, Fault, RemoteCommand, Ssh, SshError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{Server, free_port, make_key, make_key_with, set_mode, user};

#[tokio::test]
async fn a_known_host_is_connected_to() {
    let server = Server::start();
    let host_key = server.ssh().connect().await.unwrap();
    assert_eq!(host_key.algorithm, "ssh-ed25519");
    let keygen = Command::new("ssh-keygen").arg("-lf").arg(server.path("host_ed25519.pub")).output();
    let shown = String::from_utf8(keygen.unwrap().stdout).unwrap();
    assert!(shown.contains(&host_key.fingerprint), "{shown} {host_key:?}");
}

#[tokio::test]
async fn an_unknown_host_is_refused_until_the_line_from_the_message_is_added() {
    let server = Server::start();
    for known_hosts in ["", "# nobody\n"] {
        server.know(known_hosts);
        let error = server.ssh().connect().await.unwrap_err();
        assert_eq!(error.fault(), Fault::Host);
        assert!(!error.retryable());
        let SshError::HostUnknown(offered) = &error else { panic!("{error}") };
        assert_eq!(format!("{}\n", offered.line), server.host_line("ed25519"));
        let text = error.to_string();
        for part in [&offered.line, &offered.fingerprint, &server.remote("known_hosts")] {
            assert!(text.contains(part), "{text}");
        }
        server.know(&format!("{}\n", offered.line));
        server.ssh().connect().await.unwrap();
    }
    std::fs::remove_file(server.path("known_hosts")).unwrap();
    let error = server.ssh().connect().await.unwrap_err();
    assert!(matches!(error, SshError::HostUnknown(_)), "{error}");
}

#[tokio::test]
async fn another_key_than_the_known_one_is_refused_with_its_line() {
    let server = Server::start();
    make_key(&server.path("other"), "ed25519");
    let other = std::fs::read_to_string(server.path("other.pub")).unwrap();
    server.know(&format!("# comment\n[127.0.0.1]:{} {other}", server.port));
    let error = server.ssh().connect().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(&error, SshError::HostMismatch { lines, .. } if *lines == [2]), "{text}");
    assert!(text.contains("line 2 of"), "{text}");
    assert!(text.contains(server.host_line("ed25519").trim()), "{text}");

    let right = server.host_line("ed25519");
    server.know(&format!("{right}@revoked * {}", right.split_once(' ').unwrap().1));
    let error = server.ssh().connect().await.unwrap_err();
    assert!(matches!(error, SshError::HostRevoked { line: 2, .. }), "{error}");
}

#[tokio::test]
async fn hashed_hosts_and_hosts_known_by_one_of_several_keys_are_known() {
    let server = Server::start_with(&["ed25519", "rsa", "ecdsa"], "");
    for kind in ["ed25519", "rsa", "ecdsa"] {
        server.know(&server.host_line(kind));
        let plain = server.ssh().connect().await.unwrap();
        let status = Command::new("ssh-keygen")
            .args(["-q", "-H", "-f"])
            .arg(server.path("known_hosts"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let hashed = std::fs::read_to_string(server.path("known_hosts")).unwrap();
        assert!(hashed.starts_with("|1|"), "{hashed}");
        assert_eq!(server.ssh().connect().await.unwrap(), plain);
        assert!(plain.algorithm.contains(kind), "{plain:?}");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_named_with_the_way_out() {
    let server = Server::start();
    let check = async |name: &str, parts: &[&str]| {
        let credentials = Credentials { key: server.path(name), ..server.credentials() };
        let error = Ssh::new(server.target(), credentials).connect().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.fault(), Fault::Host, "{text}");
        for part in parts.iter().chain([&server.remote(name).as_str()]) {
            assert!(text.contains(part), "{text}");
        }
    };
    check("nothing", &["no such file", "ssh-keygen"]).await;
    check("id.pub", &["0644", "chmod 600"]).await;
    set_mode(&server.path("id.pub"), 0o600);
    check("id.pub", &["public half"]).await;
    make_key(&server.path("open"), "ed25519");
    set_mode(&server.path("open"), 0o640);
    check("open", &["0640", &format!("chmod 600 {}", server.remote("open"))]).await;
    make_key_with(&server.path("locked"), "ed25519", "secret");
    check("locked", &["passphrase", "without a passphrase"]).await;
    std::fs::write(server.path("text"), "not a key\n").unwrap();
    set_mode(&server.path("text"), 0o600);
    check("text", &["not a private key"]).await;
    std::fs::create_dir(server.path("folder")).unwrap();
    check("folder", &["not a file"]).await;
    for format in ["PEM", "PKCS8"] {
        make_key_with(&server.path(format), "rsa", "secret");
        let convert = Command::new("ssh-keygen")
            .args(["-q", "-p", "-P", "secret", "-N", "secret", "-m", format, "-f"])
            .arg(server.path(format))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(convert.success());
        check(format, &["passphrase"]).await;
    }
}

#[tokio::test]
async fn a_refused_key_is_named_with_the_line_that_lets_it_in() {
    let server = Server::start();
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let key = server.path(&format!("second_{kind}"));
        make_key(&key, kind);
        let ssh = Ssh::new(server.target(), Credentials { key, ..server.credentials() });
        let error = ssh.connect().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.fault(), Fault::Target);
        assert!(text.contains(&format!("user {}", user())), "{text}");
        let SshError::AuthenticationRefused(refused) = error else { panic!("{text}") };
        assert!(text.contains(&refused.fingerprint) && text.contains(&refused.line), "{text}");
        std::fs::write(server.path("authorized_keys"), &refused.line).unwrap();
        ssh.connect().await.unwrap();
    }
}

#[tokio::test]
async fn who_does_not_answer_is_said_in_time() {
    let server = Server::start();
    let check = async |target: &str, part: &str| {
        let ssh = Ssh::new(target.parse().unwrap(), server.credentials());
        let begun = Instant::now();
        // Many callers at once hear of it as soon as one.
        let answers = futures::future::join_all((0..5).map(|_| ssh.connect())).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{target}: {:?}", begun.elapsed());
        for answer in answers {
            let error = answer.unwrap_err();
            let text = error.to_string();
            assert!(text.contains(part), "{target}: {text}");
            assert_eq!(error.fault(), Fault::Target);
            assert!(error.retryable());
        }
    };
    check(&format!("root@127.0.0.1:{}", free_port()), "refused the connection").await;
    check("root@host.invalid:22", "cannot be resolved").await;
    // The kernel accepts for a listener that never does, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    check(&format!("root@127.0.0.1:{port}"), "did not answer within").await;
    // One that hangs up at once.
    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closing.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in closing.incoming() {
            drop(stream);
        }
    });
    check(&format!("root@127.0.0.1:{port}"), "no SSH connection could be made").await;
}

#[tokio::test]
async fn a_connection_is_shared_and_made_again_when_lost() {
    let mut server = Server::start();
    let ssh = server.ssh();
    let our_port = async |ssh: &Ssh| {
        let port = RemoteCommand::new(["sh", "-c", "set -- $SSH_CONNECTION; echo $2"]);
        ssh.run(&port, &mut ()).await.unwrap().stdout
    };
    let first = our_port(&ssh).await;
    assert_eq!(our_port(&ssh.clone()).await, first);
    server.cut();
    let second = our_port(&ssh).await;
    assert_ne!(second, first);
    server.restart();
    ssh.stat("/").await.unwrap().unwrap();
    server.cut();
    ssh.stat("/").await.unwrap().unwrap();
}

#[tokio::test]
async fn many_callers_share_the_server_s_few_sessions() {
    let server = Server::start();
    let ssh = server.ssh();
    let runs = (0..40).map(|number| {
        let ssh = ssh.clone();
        // Spawned: the futures may move between threads.
        tokio::spawn(async move {
            let command = RemoteCommand::new(["echo", &number.to_string()]);
            ssh.run(&command, &mut ()).await.unwrap().stdout
        })
    });
    for (number, output) in futures::future::join_all(runs).await.into_iter().enumerate() {
        assert_eq!(output.unwrap(), format!("{number}\n"));
    }
}

#[tokio::test]
async fn the_target_s_loopback_is_reached() {
    let server = Server::start();
    let ssh = server.ssh();
    let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = echo.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = echo.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
        }
    });
    let mut streams = Vec::new();
    for _ in 0..12 {
        streams.push(ssh.open_loopback(port).await.unwrap());
    }
    let sent = vec![7; 300_000];
    for stream in streams {
        let (mut read, mut write) = tokio::io::split(stream);
        let sending = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, length) = tokio::join!(sending, read.read_to_end(&mut got));
        assert_eq!(length.unwrap(), sent.len());
        assert_eq!(got, sent);
    }
    let closed = free_port();
    let Err(error) = ssh.open_loopback(closed).await else { panic!("nobody listens") };
    assert!(matches!(error, SshError::PortClosed { port, .. } if port == closed), "{error}");
    assert!(error.retryable());
}
