//! Where a path on the target really leads, links followed.

use super::files::parent;
use super::sftp::SftpError;
use super::{Ssh, SshError};

impl Ssh {
    /// The path without links. Of one that is not there, what exists of it is resolved.
    pub async fn real_path(&self, path: &str) -> Result<String, SshError> {
        let path = path.trim_end_matches('/');
        let problem = |problem| Err(SshError::BadPath { path: path.to_owned(), problem });
        if path.contains('\0') {
            return problem("it has a NUL character");
        }
        if !path.is_empty() && !path.starts_with('/') {
            return problem("it is not absolute");
        }
        if path.is_empty() {
            return Ok("/".into());
        }
        self.link
            .on_sftp(|sftp| async move {
                let mut at = path;
                loop {
                    match sftp.real_path(at).await {
                        Ok(real) => {
                            let rest =
                                if at == "/" { path } else { path.get(at.len()..).unwrap_or_default() };
                            return Ok(format!("{}{rest}", real.trim_end_matches('/')));
                        }
                        Err(SftpError::NotFound) if at != "/" => at = parent(at),
                        Err(error) => return Err(sftp.error(error, "looking at", at)),
                    }
                }
            })
            .await
    }
}
