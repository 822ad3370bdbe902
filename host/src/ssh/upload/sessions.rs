//! The SFTP sessions that an upload sends through: how many it may have.

use std::sync::Arc;

use super::plan::Plan;
use crate::ssh::sftp::Sftp;
use crate::ssh::slots::Slot;
use crate::ssh::{Ssh, SshError};

/// One server process handles a session's requests in turn; a few work side by side.
const SESSIONS: usize = 4;

/// What an upload sends through.
pub(super) struct Sessions {
    pub(super) sftp: Vec<Arc<Sftp>>,
    /// For each but the first.
    pub(super) _extra: Vec<Slot>,
}

/// Sessions of its own: when they go, the server closes every file that was still open. The
/// connection's shared one is for a server that has no more room.
pub(super) async fn sessions(ssh: &Ssh, plan: &Plan<'_>) -> Result<Sessions, SshError> {
    let connection = ssh.link.connection().await?;
    let (mut sftp, mut extra) = (Vec::new(), Vec::new());
    let work = plan.small.len() + 16 * plan.large.len();
    while sftp.len() < SESSIONS && work >= 16 * sftp.len() {
        // The first is the one that the upload's owner has for commands, none of which runs now. More are
        // taken only where nobody else needs them yet.
        if !sftp.is_empty() {
            let Some(slot) = ssh.link.slots().extra() else { break };
            extra.push(slot);
        }
        let Some(session) = connection.channels().session_if_free().await else {
            break;
        };
        let Ok(opened) = Sftp::open(connection.channels(), session).await else {
            break;
        };
        sftp.push(Arc::new(opened));
    }
    if sftp.is_empty() {
        sftp.push(connection.sftp().await?);
    }
    Ok(Sessions { sftp, _extra: extra })
}
