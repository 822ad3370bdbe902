//! The demo's SSH server, used by the clients that a real server is used by: `ssh` and `sftp`.

mod machine;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::process::Command;

use machine::{LIMIT, Machine, USER, assert_refused, client, lives, read_pid, transcript, tree, wait_for};

#[tokio::test]
async fn a_command_gives_its_output_and_its_exit_status() -> Result<()> {
    let machine = Machine::start().await?;
    let said = machine.ssh("echo out; echo err >&2; exit 3").await?;
    assert_eq!(transcript(&said), "out: out\nerr: err\nstatus: 3");
    assert_eq!(transcript(&machine.ssh("exit 0").await?), "status: 0");
    assert_eq!(transcript(&machine.ssh("exit 254").await?), "status: 254");
    // What ssh says of a command that a signal ended.
    assert_eq!(machine.ssh("kill -KILL $$").await?.status.code(), Some(255));
    assert_eq!(
        transcript(&machine.ssh_input("", b"echo from a script\nexit 4\n").await?),
        "out: from a script\nstatus: 4"
    );
    machine.stop().await
}

#[tokio::test]
async fn a_command_leads_its_process_group_and_has_a_clean_environment() -> Result<()> {
    let machine = Machine::start().await?;
    let said = machine.ssh("ps -o pgid= -p $$ | tr -d ' '; echo $$").await?;
    let text = String::from_utf8(said.stdout)?;
    let mut lines = text.lines();
    assert_eq!(lines.next(), lines.next(), "the shell's group is not its own: {text}");

    let said = String::from_utf8(machine.ssh("env").await?.stdout)?;
    // Set in this process by cargo: the server's own environment does not reach its commands.
    ensure!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(!said.contains("CARGO_MANIFEST_DIR"), "{said}");
    assert!(said.contains("USER=demo\n"), "{said}");
    machine.stop().await
}

#[tokio::test]
async fn ten_megabytes_go_through_a_command_and_back() -> Result<()> {
    let machine = Machine::start().await?;
    let sent: Vec<u8> = (0..10 * 1024 * 1024 / 4_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let said = machine.ssh_input("cat", &sent).await?;
    assert_eq!(said.status.code(), Some(0));
    assert!(said.stdout == sent, "{} bytes came back of {}", said.stdout.len(), sent.len());

    // One that starts late and says far more than it is told: its output must not wait for its input.
    let said = machine.ssh_input("sleep 1; od -An -v -tx1 | sed 's/.*/&&&&/' | wc -c", &sent).await?;
    let counted: usize = String::from_utf8(said.stdout)?.trim().parse()?;
    let said = machine.ssh_input("sleep 1; od -An -v -tx1 | sed 's/.*/&&&&/'", &sent).await?;
    assert_eq!(said.stdout.len(), counted);

    // A command that reads a little of it, and one that reads nothing, end all the same.
    assert_eq!(machine.ssh_input("head -c 4 | wc -c", &sent).await?.stdout, b"4\n");
    assert_eq!(machine.ssh_input("exit 7", &sent).await?.status.code(), Some(7));
    machine.stop().await
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_command() -> Result<()> {
    let machine = Machine::start().await?;
    let written = machine.folder.path().join("written");
    let script = format!("head -c 50000000 /dev/zero; touch {}", written.display());
    let mut client = machine.command("ssh").arg(&script).stdout(Stdio::piped()).spawn()?;
    let mut output = client.stdout.take().context("no stdout")?;
    output.read_exact(&mut [0]).await?;
    // That something does not happen has no event to wait for; unhindered, it takes a tenth of this.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!written.exists(), "the command wrote 50 MB to nobody");
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, output.read_to_end(&mut rest)).await??;
    assert_eq!(rest.len(), 49_999_999);
    assert!(client.wait().await?.success());
    assert!(written.exists());
    machine.stop().await
}

#[tokio::test]
async fn many_commands_share_a_connection() -> Result<()> {
    let machine = Machine::start().await?;
    let control = machine.folder.path().join("control");
    let mut master = machine.command("ssh");
    let mut master = master
        .args(["-M", "-N", "-S"])
        .arg(&control)
        .arg("-o")
        .arg("ServerAliveInterval=1")
        .kill_on_drop(true)
        .spawn()?;
    wait_for(|| control.exists()).await?;
    let mut commands = tokio::task::JoinSet::new();
    for number in 0..40 {
        let mut client = machine.command("ssh");
        client.arg("-S").arg(&control).arg(format!("head -c 300000 /dev/zero | wc -c; exit {number}"));
        commands.spawn(async move { (number, tokio::time::timeout(LIMIT, client.output()).await) });
    }
    while let Some(ended) = commands.join_next().await {
        let (number, said) = ended?;
        assert_eq!(transcript(&said??), format!("out: 300000\nstatus: {number}"));
    }
    assert!(master.try_wait()?.is_none(), "the shared connection was lost");
    master.kill().await?;
    machine.stop().await
}

#[tokio::test]
async fn a_background_process_outlives_its_channel_and_ends_with_the_server() -> Result<()> {
    let machine = Machine::start().await?;
    let pid_file = machine.folder.path().join("pid");
    let stubborn_file = machine.folder.path().join("stubborn");
    let detach = "</dev/null >/dev/null 2>&1 &";
    let script = format!(
        "setsid sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 100' {detach}
         nohup setsid sh -c 'trap \"\" TERM; echo $$ > {stubborn}.new; mv {stubborn}.new {stubborn}; while :; do sleep 1; done' {detach}
         echo started",
        pid = pid_file.display(),
        stubborn = stubborn_file.display(),
    );
    // Comes back although its children live on: they let go of the output.
    assert_eq!(transcript(&machine.ssh(&script).await?), "out: started\nstatus: 0");
    let polite = read_pid(&pid_file).await?;
    let stubborn = read_pid(&stubborn_file).await?;
    assert!(lives(polite) && lives(stubborn));
    machine.stop().await?;
    assert!(!lives(polite), "the background process {polite} is still there");
    assert!(!lives(stubborn), "the process {stubborn}, deaf to SIGTERM, is still there");
    Ok(())
}

#[tokio::test]
async fn what_a_killed_demo_left_is_ended_by_the_next() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let machine = Machine::start_in(folder).await?;
    let pid_file = machine.folder.path().join("pid");
    let script = format!(
        "sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 100' </dev/null >/dev/null 2>&1 &",
        pid_file.display()
    );
    machine.ssh(&script).await?;
    let pid = read_pid(&pid_file).await?;

    // A process that is killed runs no destructors.
    let Machine { folder, server } = machine;
    std::mem::forget(server);
    assert!(lives(pid));
    let machine = Machine::start_in(folder).await?;
    assert!(!lives(pid));
    machine.stop().await
}

#[tokio::test]
async fn a_command_whose_client_has_gone_finds_its_input_at_an_end() -> Result<()> {
    let machine = Machine::start().await?;
    let began = machine.folder.path().join("began");
    let ended = machine.folder.path().join("ended");
    let script = format!("touch {}; cat >/dev/null; touch {}", began.display(), ended.display());
    let mut client = machine.command("ssh").arg(&script).stdin(Stdio::piped()).spawn()?;
    wait_for(|| began.exists()).await?;
    assert!(!ended.exists());
    client.kill().await?;
    wait_for(|| ended.exists()).await?;
    machine.stop().await
}

#[tokio::test]
async fn a_port_of_the_machine_is_reached_through_the_connection() -> Result<()> {
    let machine = Machine::start().await?;
    let service = TcpListener::bind("127.0.0.1:0").await?;
    let port = service.local_addr()?.port();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = service.accept().await?;
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await
    });

    let sent = vec![b'x'; 5_000_000];
    let said = machine.run(machine.command_with("ssh", &["-W", &format!("127.0.0.1:{port}")]), &sent).await?;
    assert_eq!(said.status.code(), Some(0), "{}", transcript(&said));
    assert!(said.stdout == sent);
    echo.await??;

    let refused = machine.run(machine.command_with("ssh", &["-W", "192.0.2.1:80"]), b"").await?;
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("administratively prohibited"),
        "{}",
        transcript(&refused)
    );
    // Nothing listens there any more.
    let refused =
        machine.run(machine.command_with("ssh", &["-W", &format!("127.0.0.1:{port}")]), b"").await?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("connect failed"), "{}", transcript(&refused));
    machine.stop().await
}

#[tokio::test]
async fn only_the_one_key_and_the_one_user_get_in() -> Result<()> {
    let machine = Machine::start().await?;
    let other = machine.folder.path().join("other");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&other).status().await?;
    ensure!(made.success());

    let address = machine.server.address();
    let stranger = client("ssh", &other, machine.server.known_hosts(), address.port(), USER);
    assert_refused(&machine.run(stranger, b"").await?);
    let impostor =
        client("ssh", machine.server.key_file(), machine.server.known_hosts(), address.port(), "root2");
    assert_refused(&machine.run(impostor, b"").await?);
    assert!(address.ip().is_loopback());

    // A client that knows another key for this address turns away.
    let wrong = machine.folder.path().join("wrong_hosts");
    let key = fs::read_to_string(other.with_extension("pub"))?;
    fs::write(&wrong, format!("[127.0.0.1]:{} {key}", address.port()))?;
    let said =
        machine.run(client("ssh", machine.server.key_file(), &wrong, address.port(), USER), b"").await?;
    assert!(String::from_utf8_lossy(&said.stderr).contains("REMOTE HOST IDENTIFICATION HAS CHANGED"));

    for secret in [machine.server.key_file(), &machine.folder.path().join("ssh/ssh_host_ed25519_key")] {
        assert_eq!(fs::metadata(secret)?.permissions().mode() & 0o777, 0o600, "{}", secret.display());
    }
    assert_eq!(fs::metadata(machine.folder.path().join("ssh"))?.permissions().mode() & 0o777, 0o700);
    machine.stop().await
}

#[tokio::test]
async fn sftp_takes_a_tree_there_and_back() -> Result<()> {
    let machine = Machine::start().await?;
    let local = machine.folder.path().join("local");
    fs::create_dir_all(local.join("app/empty"))?;
    for (name, content, mode) in [
        ("app/main.py", "print('hello')\n".repeat(40_000), 0o644),
        ("app/run.sh", "#!/bin/sh\n".to_owned(), 0o755),
        ("app/nothing", String::new(), 0o640),
        ("secret.env", "A=1\n".to_owned(), 0o600),
    ] {
        fs::write(local.join(name), content)?;
        fs::set_permissions(local.join(name), fs::Permissions::from_mode(mode))?;
    }
    fs::set_permissions(local.join("app/empty"), fs::Permissions::from_mode(0o750))?;

    let root = machine.folder.path().display().to_string();
    machine.sftp(&format!("mkdir {root}/target\nput -pr {root}/local {root}/target/v1\nget -pr {root}/target/v1 {root}/back\n")).await?;
    assert_eq!(tree(&machine.folder.path().join("target/v1"))?, tree(&local)?);
    assert_eq!(tree(&machine.folder.path().join("back"))?, tree(&local)?);

    let said = machine
        .sftp(&format!(
            "cd {root}/target\nln -s v1 current\nln v1/app/run.sh hard\nchmod 711 hard\nrename hard moved\n\
             ls -la\ndf .\nrm v1/secret.env\nmkdir d\nrmdir d\npwd\n"
        ))
        .await?;
    assert_eq!(fs::read_link(machine.folder.path().join("target/current"))?, Path::new("v1"));
    assert_eq!(
        fs::metadata(machine.folder.path().join("target/v1/app/run.sh"))?.permissions().mode() & 0o777,
        0o711
    );
    assert!(!machine.folder.path().join("target/v1/secret.env").exists());
    for expected in ["moved", "current", "%Capacity", &format!("working directory: {root}/target")] {
        assert!(said.contains(expected), "{expected} is missing in: {said}");
    }

    for (commands, expected) in [
        (format!("get {root}/absent"), "not found"),
        (format!("rmdir {root}/target"), "Failure"),
        (format!("mkdir {root}/target"), "Failure"),
    ] {
        let said = machine.run(machine.command_with("sftp", &["-b", "-"]), commands.as_bytes()).await?;
        let told = transcript(&said);
        assert!(!said.status.success() && told.contains(expected), "{commands}: {told}");
    }
    machine.stop().await
}
