//! A lease on a service that is renewed in the background, for as long as its guard lives.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ssh::{Lease, Ssh, SshError};

/// How often a lease is renewed: two renewals may fail before it ends.
const RENEWED_EVERY: Duration = Duration::from_secs(10);

/// A lease that is renewed for as long as this lives.
pub(super) struct LeaseGuard {
    pub lease: Lease,
    /// Changes what it may only under the lease.
    pub ssh: Ssh,
    /// The lease is lost.
    pub lost: CancellationToken,
    /// The lease is lost, or the job was cancelled.
    pub abort: CancellationToken,
    _renewing: JoinSet<()>,
}

impl LeaseGuard {
    pub fn new(ssh: &Ssh, lease: Lease, cancel: &CancellationToken) -> Self {
        let (lost, abort) = (CancellationToken::new(), cancel.child_token());
        let mut renewing = JoinSet::new();
        renewing.spawn(renew(lease.clone(), lost.clone(), abort.clone()));
        LeaseGuard { ssh: ssh.under(&lease), lease, lost, abort, _renewing: renewing }
    }

    /// Makes `{root}/current` lead to a release, in one step.
    pub async fn point_current(&self, root: &str, release: &str) -> Result<(), String> {
        let link = format!("{root}/current");
        self.ssh.write_link(&link, &format!("releases/{release}")).await.map_err(|error| error.to_string())
    }
}

/// A target that cannot be asked may be back before the lease ends.
async fn renew(lease: Lease, lost: CancellationToken, abort: CancellationToken) {
    loop {
        tokio::time::sleep(RENEWED_EVERY).await;
        match lease.renew().await {
            Ok(()) => {}
            Err(SshError::LeaseLost { .. }) => {
                lost.cancel();
                return abort.cancel();
            }
            Err(error) => tracing::warn!(%error, "could not renew a lease"),
        }
    }
}
