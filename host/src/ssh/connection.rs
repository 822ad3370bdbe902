//! One authenticated connection, and the SFTP session that those on it share. When to make one is decided
//! elsewhere.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::channels::Channels;
use super::dial::dial;
use super::lanes::Lane;
use super::sftp::Sftp;
use super::slots::Slots;
use super::{Credentials, HostKey, SshError, Target};

pub(super) struct Connection {
    channels: Arc<Channels>,
    host_key: HostKey,
    sftp: Mutex<Option<Arc<Sftp>>>,
}

impl Connection {
    pub(super) async fn make(
        target: &Target,
        credentials: &Credentials,
        slots: Arc<Slots>,
    ) -> Result<Self, SshError> {
        let dialled = dial(target, credentials).await?;
        let channels = Channels::new(dialled.handle, target.clone(), dialled.ended, slots);
        Ok(Self { channels: Arc::new(channels), host_key: dialled.host_key, sftp: Mutex::default() })
    }

    pub(super) fn host_key(&self) -> &HostKey {
        &self.host_key
    }

    pub(super) fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    pub(super) fn is_alive(&self) -> bool {
        self.channels.is_alive()
    }

    /// The connection's own SFTP session, opened when first asked for.
    pub(super) async fn sftp(&self) -> Result<Arc<Sftp>, SshError> {
        let mut shared = self.sftp.lock().await;
        if let Some(sftp) = shared.as_ref().filter(|sftp| sftp.is_open()) {
            return Ok(sftp.clone());
        }
        let session = self.channels.session(Lane::Files).await?;
        let sftp = Arc::new(Sftp::open(&self.channels, session).await?);
        *shared = Some(sftp.clone());
        Ok(sftp)
    }
}
