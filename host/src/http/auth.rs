//! Tokens: the file that holds them, and whether a request's is one of them. It knows no requests.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

const SHORTEST: usize = 16;

/// The tokens that are accepted, as digests.
#[derive(Debug)]
pub struct Tokens {
    entries: Vec<TokenEntry>,
}

#[derive(Debug)]
struct TokenEntry {
    name: String,
    digest: [u8; 32],
}

#[derive(Debug, Error)]
pub enum TokenFileError {
    #[error("cannot read the token file {path}: {source}; write one token a line into it, with mode 0600")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the token file {path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")]
    Open { path: PathBuf, mode: u32 },
    #[error("the token file {path} has no token; write one a line, as in `ci: $(openssl rand -hex 32)`")]
    Empty { path: PathBuf },
    #[error(
        "the token in line {line} of {path} is shorter than {SHORTEST} characters or has a space in it; \
         write `name: token`, or a token alone, and make one with: openssl rand -hex 32"
    )]
    Token { path: PathBuf, line: usize },
    #[error("line {line} of {path} repeats the name {name:?}; give each token its own name")]
    Name { path: PathBuf, line: usize, name: String },
}

impl Tokens {
    /// Reads a token file.
    ///
    /// # Errors
    /// When it cannot be read, others can read it, or a line is not a token. No message has a token.
    pub fn load(path: &Path) -> Result<Tokens, TokenFileError> {
        let entries = read(path)?
            .into_iter()
            .map(|line| TokenEntry { name: line.name, digest: digest(&line.token) })
            .collect();
        Ok(Tokens { entries })
    }

    /// The name of a token, if it is one of these. How long this takes does not depend on which it is, nor on
    /// how much of it is right.
    pub fn name_of(&self, token: &str) -> Option<&str> {
        let given = digest(token);
        let mut found = Choice::from(0);
        let mut index = 0_u64;
        for (position, entry) in (0_u64..).zip(&self.entries) {
            let equal = entry.digest.ct_eq(&given);
            index.conditional_assign(&position, equal);
            found |= equal;
        }
        let index = usize::try_from(index).ok()?;
        if found.into() { self.entries.get(index).map(|entry| entry.name.as_str()) } else { None }
    }
}

/// The first token of a file: the one that a client sends.
///
/// # Errors
/// As [`Tokens::load`].
pub fn first_token(path: &Path) -> Result<String, TokenFileError> {
    let lines = read(path)?;
    lines
        .into_iter()
        .next()
        .map(|line| line.token)
        .ok_or_else(|| TokenFileError::Empty { path: path.to_owned() })
}

/// The token of an `Authorization` header.
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

struct Line {
    name: String,
    token: String,
}

fn read(path: &Path) -> Result<Vec<Line>, TokenFileError> {
    let failed = |source| TokenFileError::Read { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TokenFileError::Open { path: path.to_owned(), mode });
    }
    parse(path, &std::fs::read_to_string(path).map_err(failed)?)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Line>, TokenFileError> {
    let mut lines: Vec<Line> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, token) = name_and_token(line);
        if token.len() < SHORTEST || token.contains(char::is_whitespace) {
            return Err(TokenFileError::Token { path: path.to_owned(), line: number });
        }
        let name = name.map_or_else(|| format!("token-{number}"), str::to_owned);
        if lines.iter().any(|line| line.name == name) {
            return Err(TokenFileError::Name { path: path.to_owned(), line: number, name });
        }
        lines.push(Line { name, token: token.to_owned() });
    }
    if lines.is_empty() { Err(TokenFileError::Empty { path: path.to_owned() }) } else { Ok(lines) }
}

/// `name: token`, `name=token`, or a token alone. A token may end in `=` (base64), so `=` separates only
/// where something follows that is not padding.
fn name_and_token(line: &str) -> (Option<&str>, &str) {
    let Some((name, token)) = line.split_once([':', '=']) else { return (None, line) };
    let (name, token) = (name.trim(), token.trim());
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c));
    if is_name && !token.trim_start_matches('=').is_empty() { (Some(name), token) } else { (None, line) }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_line_is_a_token_with_or_without_a_name() {
        let check = |line: &str, name: Option<&str>, token: &str| {
            assert_eq!(name_and_token(line), (name, token), "{line}");
        };
        check("0123456789abcdef0123", None, "0123456789abcdef0123");
        check("ci: 0123456789abcdef", Some("ci"), "0123456789abcdef");
        check("ci=0123456789abcdef", Some("ci"), "0123456789abcdef");
        check("ops@night=c2VjcmV0c2VjcmV0cw==", Some("ops@night"), "c2VjcmV0c2VjcmV0cw==");
        check("c2VjcmV0c2VjcmV0cw==", None, "c2VjcmV0c2VjcmV0cw==");
    }

    #[test]
    fn a_wrong_file_is_refused_without_showing_a_token() {
        let path = Path::new("/etc/deployer/tokens");
        let check = |text: &str, expect: &str| {
            let error = parse(path, text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expect), "{text:?}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        };
        check("", "has no token");
        check("# only a comment\n\n", "has no token");
        check("# one\nci: hunter2\n", "line 2");
        check("ci: hunter2 hunter2 hunter2\n", "line 1");
        check("ci: hunter2hunter2hunter2\nci: hunter2hunter2hunter3\n", "repeats the name \"ci\"");
    }

    #[test]
    fn only_a_known_token_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "ci: aaaaaaaaaaaaaaaaaaaa\n# x\nbbbbbbbbbbbbbbbbbbbb\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(Tokens::load(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let tokens = Tokens::load(&path).unwrap();
        assert_eq!(tokens.name_of("aaaaaaaaaaaaaaaaaaaa"), Some("ci"));
        assert_eq!(tokens.name_of("bbbbbbbbbbbbbbbbbbbb"), Some("token-3"));
        assert_eq!(tokens.name_of("aaaaaaaaaaaaaaaaaaa"), None);
        assert_eq!(tokens.name_of(""), None);
        assert_eq!(first_token(&path).unwrap(), "aaaaaaaaaaaaaaaaaaaa");
    }

    #[test]
    fn a_header_carries_a_bearer_token() {
        let check = |header: &str, expect: Option<&str>| assert_eq!(bearer(header), expect, "{header}");
        check("Bearer abc", Some("abc"));
        check("bearer  abc ", Some("abc"));
        check("Basic abc", None);
        check("Bearer", None);
        check("Bearer  ", None);
    }
}
