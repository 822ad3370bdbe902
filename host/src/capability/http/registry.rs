//! The registry that the deployer was given, and what it sends to it. No plugin sees the secrets.

use base64::Engine;

use crate::secret::Secret;

/// The registry that the deployer was given.
#[derive(Debug, Clone)]
pub struct Registry {
    /// `https://registry.example.com/api`, without a user; a request's path comes after it.
    pub url: String,
    /// Sent as a bearer token. No plugin sees it.
    pub token: Option<Secret>,
    /// Sent where there is no token. No plugin sees it either.
    pub login: Option<Login>,
}

/// A user and a password, as a URL may have them before its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

impl Registry {
    /// What the host sends as `Authorization`.
    pub fn authorization(&self) -> Option<Secret> {
        match (&self.token, &self.login) {
            (Some(token), _) => Some(Secret::new(format!("Bearer {}", token.expose()))),
            (None, Some(login)) => Some(Secret::new(format!("Basic {}", login.basic()))),
            (None, None) => None,
        }
    }

    /// What must not be shown of it: each secret with what stands in its place.
    pub fn secrets(&self) -> Vec<(&'static str, String)> {
        let token = self.token.iter().map(|token| ("[registry token]", token.expose().to_owned()));
        let login = self.login.iter().flat_map(|login| {
            let password = login.password.expose().to_owned();
            [("[registry password]", password), ("[registry login]", login.basic())]
        });
        token.chain(login).filter(|(_, secret)| !secret.is_empty()).collect()
    }
}

impl Login {
    fn basic(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.user, self.password.expose()))
    }
}
