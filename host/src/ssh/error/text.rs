//! The words for every error: the thing, the cause, the next move.

use std::fmt;

use super::{KeyProblem, SshError};

impl SshError {
    /// The thing and the cause, without the next move.
    pub fn problem(&self) -> String {
        match self {
            Self::BadTarget { given, problem } => format!("the target {given:?}: {problem}"),
            Self::BadCommand { command, problem } => {
                format!("the command `{command}` cannot be sent: {problem}")
            }
            Self::BadVariable { name, problem } => {
                format!("the environment variable {name:?}: {problem}")
            }
            Self::BadPath { path, problem } => {
                format!("the path {path:?} on the target: {problem}")
            }
            Self::BadEntry { path, problem } => format!("the entry {path:?} to upload: {problem}"),
            Self::Changed { path, how } => format!("{path} changed while it was being sent: {how}"),
            Self::SourceUnreadable { path, source } => format!("{path} cannot be read: {source}"),
            Self::Key { path, problem } => format!("the key {}: {problem}", path.display()),
            Self::KnownHostsUnreadable { path, source } => {
                format!("the known hosts in {} cannot be read: {source}", path.display())
            }
            Self::HostUnknown(offered) => format!(
                "{}: {} does not list this host, which showed the key {}",
                offered.target,
                offered.known_hosts.display(),
                offered.fingerprint
            ),
            Self::HostMismatch { offered, lines } => format!(
                "{}: the host showed the key {}, but {} has a different one for it on {}; someone \
                 may be intercepting the connection",
                offered.target,
                offered.fingerprint,
                offered.known_hosts.display(),
                on_lines(lines)
            ),
            Self::HostRevoked { offered, line } => format!(
                "{}: the host showed the key {}, which line {line} of {} revokes",
                offered.target,
                offered.fingerprint,
                offered.known_hosts.display()
            ),
            Self::Unresolvable { host, cause } => {
                format!("the host {host:?} cannot be resolved: {cause}")
            }
            Self::Refused { target } => {
                format!("{target} refused the connection: nothing listens on that port")
            }
            Self::Silent { target, stage, limit } => {
                format!("{target} did not answer within {} s: {stage}", limit.as_secs())
            }
            Self::Unreachable { target, source } => format!("{target} cannot be reached: {source}"),
            Self::Handshake { target, cause } => {
                format!("{target} answered, but no SSH connection could be made: {cause}")
            }
            Self::AuthenticationRefused(refused) => format!(
                "{} does not let the user {} in with the key {} ({}): {}",
                refused.target,
                refused.user,
                refused.key.display(),
                refused.fingerprint,
                refused.reason
            ),
            Self::Lost { target, during, cause, process } => {
                let left = match process {
                    Some(process) => format!(" (it ran as process {})", process.group),
                    None => String::new(),
                };
                format!(
                    "the connection to {target} was lost during {during}{left}: {cause}; its \
                     outcome is unknown"
                )
            }
            Self::LeaseLost { folder, holder } => {
                format!("the lease on {folder} was lost; {holder} has it now")
            }
            Self::TimedOut { command, limit, ended, last } => {
                let last = match last.trim_end() {
                    "" => "it had printed nothing".to_owned(),
                    last => format!("its last output:\n{last}\n"),
                };
                format!("`{command}` took longer than {} s and {ended}; {last}", limit.as_secs_f32())
            }
            Self::Cancelled { command, ended } => format!("`{command}` was cancelled and {ended}"),
            Self::NotStarted { command, said } => {
                let said = match said.trim() {
                    "" => "the target's shell said nothing",
                    said => said,
                };
                format!("`{command}` was not started: {said}")
            }
            Self::NoDirectory { command, path } => format!(
                "`{command}` was not started: its directory {path} does not exist on the target, \
                 or may not be entered"
            ),
            Self::NoEnvironmentFile { command, path } => format!(
                "`{command}` was not started: its environment file {path} does not exist on the \
                 target, or may not be read"
            ),
            Self::ChannelRefused { target, cause } => {
                format!("{target} refused one more channel on the connection: {cause}")
            }
            Self::TooFewSessions { target, room, needed } => {
                let sessions = if *room == 1 { "session" } else { "sessions" };
                format!("{target} allows {room} {sessions} on a connection, and {needed} are needed at least")
            }
            Self::PortClosed { target, port, cause } => {
                format!("{target}: port {port} on the server's own loopback: {cause}")
            }
            Self::NoSftp { target, cause } => format!("{target} offers no SFTP: {cause}"),
            Self::NotFound { path } => format!("{path} does not exist on the target"),
            Self::Denied { doing, path } => {
                format!("{doing} {path} on the target: permission denied")
            }
            Self::TooLarge { path, limit } => {
                format!("{path} on the target is larger than {limit} bytes")
            }
            Self::DiskFull { path, free, cause } => {
                format!("{path}: the target's disk is full: {cause}, {free} bytes left")
            }
            Self::Remote { doing, path, said } => format!("{doing} {path} on the target: {said}"),
        }
    }

    /// What to do about it.
    pub fn next_move(&self) -> String {
        match self {
            Self::BadTarget { .. } => "write it as user@host:port".into(),
            Self::BadCommand { .. } => "change its arguments".into(),
            Self::BadVariable { .. } => {
                "name it by letters, digits and '_', and give it a text without NUL".into()
            }
            Self::BadPath { .. } => "give an absolute path without '..'".into(),
            Self::BadEntry { .. } => "give paths relative to the directory, without '..'".into(),
            Self::Changed { .. } => "let what writes there finish, then deploy again".into(),
            Self::SourceUnreadable { .. } => "check that it exists and its permissions".into(),
            Self::Key { path, problem } => problem.next_move(path),
            Self::KnownHostsUnreadable { path, .. } => {
                format!("check that {} is a file that this user may read", path.display())
            }
            Self::HostUnknown(offered) => format!(
                "compare the fingerprint with the server's own (ssh-keygen -lf \
                 /etc/ssh/ssh_host_ed25519_key.pub, on the server), then add this line to {}:\n{}",
                offered.known_hosts.display(),
                offered.line
            ),
            Self::HostMismatch { offered, lines } => format!(
                "if the server really has a new key (compare the fingerprint on the server itself), \
                 replace {} of {} with:\n{}",
                on_lines(lines),
                offered.known_hosts.display(),
                offered.line
            ),
            Self::HostRevoked { .. } => "give the server a new host key".into(),
            Self::Unresolvable { .. } => "check the host's name and this machine's DNS".into(),
            Self::Refused { .. } => "check the port, and that sshd runs on the server".into(),
            Self::Silent { .. } => "check the address, the port and the firewalls between".into(),
            Self::Unreachable { .. } => "check the address and this machine's network".into(),
            Self::Handshake { .. } => "check that sshd has this port, and see its log on the server".into(),
            Self::AuthenticationRefused(refused) => format!(
                "add this line to ~{}/.ssh/authorized_keys on the server, or check its PermitRootLogin:\n{}",
                refused.user, refused.line
            ),
            Self::Lost { .. } => "check what it left on the target, or do it again".into(),
            Self::LeaseLost { .. } => "leave the service to its new holder, or deploy again".into(),
            Self::TimedOut { .. } => "find out what it waited for, or give it more time".into(),
            Self::Cancelled { .. } => "nothing: this was requested".into(),
            Self::NotStarted { .. } => "check the user's login shell on the target".into(),
            Self::NoDirectory { .. } | Self::NoEnvironmentFile { .. } => {
                "check that it exists, and that the SSH user has access to it".into()
            }
            Self::ChannelRefused { .. } => {
                "wait for other commands to end, or raise MaxSessions in the server's sshd_config".into()
            }
            Self::TooFewSessions { .. } => {
                "set `MaxSessions 10` in the server's /etc/ssh/sshd_config, and reload its sshd".into()
            }
            Self::PortClosed { .. } => "check that the service listens there, and that sshd_config allows \
                 AllowTcpForwarding"
                .into(),
            Self::NoSftp { .. } => {
                "add `Subsystem sftp internal-sftp` to the server's sshd_config and reload sshd; if \
                 it is there, check that the SSH user's shell prints nothing at its start"
                    .into()
            }
            Self::NotFound { .. } => "check the path".into(),
            Self::Denied { .. } => "check the owner and the mode of the path and of its directory".into(),
            Self::TooLarge { .. } => "make that file smaller".into(),
            Self::DiskFull { .. } => "make room on the target".into(),
            Self::Remote { .. } => "check the path and the disk on the target".into(),
        }
    }
}

impl fmt::Display for SshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem(), self.next_move())
    }
}

impl KeyProblem {
    fn next_move(&self, path: &std::path::Path) -> String {
        match self {
            Self::Missing => "make one with ssh-keygen -t ed25519 -N '', or name another with --key".into(),
            Self::Unreadable(_) => "let this user read it".into(),
            Self::OpenToOthers(_) => format!("chmod 600 {}", path.display()),
            Self::Encrypted => "give a deploy key without a passphrase (ssh-keygen -t ed25519 -N '')".into(),
            Self::PublicHalf => "name the file without .pub".into(),
            Self::NotAKey(_) => "name a private key in OpenSSH's or PEM format".into(),
        }
    }
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such file"),
            Self::Unreadable(source) => write!(f, "it cannot be read: {source}"),
            Self::OpenToOthers(mode) => {
                write!(f, "its permissions are {mode:04o}, so users other than its owner can read it")
            }
            Self::Encrypted => f.write_str("it is encrypted with a passphrase"),
            Self::PublicHalf => f.write_str("it is the public half of a key"),
            Self::NotAKey(cause) => write!(f, "it is not a private key that can be read: {cause}"),
        }
    }
}

fn on_lines(lines: &[usize]) -> String {
    let numbers: Vec<String> = lines.iter().map(usize::to_string).collect();
    match numbers.len() {
        1 => format!("line {}", numbers.concat()),
        _ => format!("lines {}", numbers.join(", ")),
    }
}
