//! A server as the rest of the deployer uses it. Commands and endings are here; files, uploads and paths, which
//! are more of the same handle, have files of their own.

use tokio::io::{AsyncRead, AsyncWrite};

use super::lanes::Lane;
use super::lease::{self, Lease, LeaseRequest, Taken};
use super::link::Link;
use super::slots::{Priority, QueuedRequest, Slot};
use super::{
    ConnectionMark, Credentials, HostKey, KillOutcome, Output, RemoteCommand, SshError, Target, Watch,
};
use crate::model::RemoteProcess;

/// A server, reached over one connection that many share. Cheap to clone.
#[derive(Clone)]
pub struct Ssh {
    pub(super) link: Link,
    /// What must be held before anything is changed through this handle.
    lease: Option<Lease>,
}

/// What came of a request for a slot.
pub enum SlotRequest {
    Granted(Slot),
    Queued(QueuedRequest),
}

impl Ssh {
    /// Nothing is connected yet.
    pub fn new(target: Target, credentials: Credentials) -> Self {
        Self { link: Link::new(target, credentials), lease: None }
    }

    /// The same server, for somebody who changes it only as long as the lease is held.
    pub fn under(&self, lease: &Lease) -> Self {
        Self { link: self.link.clone(), lease: Some(lease.clone()) }
    }

    /// Whether something may be changed through this handle now.
    pub(super) async fn permitted(&self) -> Result<(), SshError> {
        match &self.lease {
            Some(lease) => lease.held().await,
            None => Ok(()),
        }
    }

    pub fn target(&self) -> &Target {
        self.link.target()
    }

    /// Makes sure that there is a connection. That there is none is known within ten seconds.
    pub async fn connect(&self) -> Result<HostKey, SshError> {
        Ok(self.link.connection().await?.host_key().clone())
    }

    /// The connection that there is now, to find out later whether it was lost meanwhile.
    pub async fn connection_mark(&self) -> ConnectionMark {
        self.link.mark().await
    }

    /// A stream to a port on the target's own loopback, for services that are not open to the
    /// outside.
    pub async fn open_loopback(
        &self,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, SshError> {
        self.link.on_connection(|connection| async move { connection.channels().loopback(port).await }).await
    }

    /// Runs a command and waits for its end. A command that could not be started is an error; one
    /// that ran and failed is not.
    ///
    /// Its time begins when it has a channel. If this future is dropped, the remote process group is
    /// ended in the background.
    pub async fn run(&self, command: &RemoteCommand, watch: &mut dyn Watch) -> Result<Output, SshError> {
        self.run_in(Lane::Command, command, watch).await
    }

    /// As `run`, for a short command that only reads: it does not wait for those that take as long as a build does.
    pub async fn ask(&self, command: &RemoteCommand) -> Result<Output, SshError> {
        self.run_in(Lane::Aside, command, &mut ()).await
    }

    /// As `run`, in a channel that is kept for this.
    pub(super) async fn run_in(
        &self,
        lane: Lane,
        command: &RemoteCommand,
        watch: &mut dyn Watch,
    ) -> Result<Output, SshError> {
        self.permitted().await?;
        let fence = self.lease.as_ref().map(Lease::fence);
        if let Some(output) = self.link.run(lane, command, fence, watch).await? {
            return Ok(output);
        }
        if let Some(lease) = &self.lease {
            // Who has it now is asked for the message.
            lease.renew().await?;
        }
        // The lease is there again: only whoever took the file away by hand can say why.
        Err(SshError::NotStarted {
            command: command.shown(),
            said: "the lease was not there when it was to start".into(),
        })
    }

    /// Ends a process group that an earlier command left, if it is still that one. For recovery
    /// after a crash; `run` does this itself.
    pub async fn kill_group(&self, process: &RemoteProcess) -> Result<KillOutcome, SshError> {
        self.link.kill_group(process).await
    }

    /// Takes a lease, if nobody else holds it.
    ///
    /// # Errors
    /// When the target cannot be asked, or its folder cannot be written.
    pub async fn take_lease(&self, request: &LeaseRequest) -> Result<Taken, SshError> {
        lease::take(&self.link, request).await
    }

    /// Gives up what a deployer has on a folder, by its id: for one that was killed, and knows of no lease.
    ///
    /// # Errors
    /// When the target cannot be asked: it ends by itself then.
    pub async fn give_up_lease_of(&self, folder: &str, owner: &str) -> Result<(), SshError> {
        lease::give_up_of(&self.link, folder, owner).await
    }

    /// Asks for a slot to work on the target.
    pub async fn request_slot(&self, priority: Priority) -> SlotRequest {
        let slots = self.link.slots();
        // In the queue at once, so that nobody who comes later is earlier.
        let request = match slots.request(priority).granted() {
            Ok(slot) => return SlotRequest::Granted(slot),
            Err(request) => request,
        };
        // How many slots there are is the server's to say. While it cannot be asked, nobody has to wait: they
        // all find out for themselves that it is away.
        if !slots.are_known()
            && let Err(error) = self.find_room().await
        {
            tracing::debug!(%error, "it is not known how many sessions the target allows");
            slots.assume();
        }
        match request.granted() {
            Ok(slot) => SlotRequest::Granted(slot),
            Err(request) => SlotRequest::Queued(request),
        }
    }

    async fn find_room(&self) -> Result<(), SshError> {
        self.link.connection().await?.channels().lanes().await.map(drop)
    }
}
