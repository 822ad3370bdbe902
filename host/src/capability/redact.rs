//! Takes the environment's values out of what a step says. A second line of defence: values never pass
//! through here on purpose, but a service may print its own environment when it starts.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::environment::EnvironmentSource;
use crate::ssh::environment_text;

/// Shorter values appear in texts by chance, and to replace them would garble every line.
const SHORTEST: usize = 6;
/// One line of a value that has several.
const SHORTEST_LINE: usize = 8;

/// Values that say nothing secret and that commands print all the time; a plugin that asks Docker whether a
/// container is `running` must not read `[env STATE]`.
const EVERYDAY: [&str; 24] = [
    "active",
    "container",
    "debug",
    "default",
    "development",
    "disabled",
    "docker",
    "enabled",
    "error",
    "exited",
    "failed",
    "healthy",
    "inactive",
    "localhost",
    "production",
    "public",
    "python",
    "release",
    "running",
    "staging",
    "systemd",
    "testing",
    "unhealthy",
    "warning",
];

/// Replaces each value by `[env NAME]`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a value inside another one does not spoil it.
    patterns: Arc<Vec<Pattern>>,
}

struct Pattern {
    text: String,
    label: String,
}

impl Redactor {
    pub fn new(environment: &EnvironmentSource) -> Self {
        let EnvironmentSource::Held(values) = environment else { return Self::default() };
        Self::of(values.iter().map(|(name, value)| (format!("[env {name}]"), value.expose())))
    }

    /// Leaves these texts whole: a plugin compares them with what the target says.
    pub fn sparing(&self, public: &[String]) -> Self {
        let kept =
            self.patterns.iter().filter(|pattern| !public.iter().any(|text| text.contains(&pattern.text)));
        let own = kept.map(|pattern| Pattern { text: pattern.text.clone(), label: pattern.label.clone() });
        Self { patterns: Arc::new(own.collect()) }
    }

    /// As well as what it has.
    pub fn and(&self, label: &str, value: &str) -> Self {
        let own = self.patterns.iter().map(|pattern| (pattern.label.clone(), pattern.text.as_str()));
        Self::of(own.chain([(label.to_owned(), value)]))
    }

    fn of<'a>(values: impl Iterator<Item = (String, &'a str)>) -> Self {
        let mut patterns: Vec<Pattern> = Vec::new();
        for (label, value) in values {
            if is_everyday(value) {
                continue;
            }
            if value.len() < SHORTEST {
                continue;
            }
            let mut add = |text: &str, shortest: usize| {
                if text.len() >= shortest && !patterns.iter().any(|pattern| pattern.text == text) {
                    patterns.push(Pattern { text: text.to_owned(), label: label.clone() });
                }
            };
            for form in forms(value) {
                add(&form, SHORTEST);
                if form.contains(['\n', '\r']) {
                    form.split(['\n', '\r']).for_each(|line| add(line.trim(), SHORTEST_LINE));
                }
            }
        }
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.text.len()));
        Self { patterns: Arc::new(patterns) }
    }

    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut redacted = Cow::Borrowed(text);
        for pattern in self.patterns.iter() {
            if redacted.contains(&pattern.text) {
                redacted = Cow::Owned(redacted.replace(&pattern.text, &pattern.label));
            }
        }
        redacted
    }

    pub fn redact_string(&self, text: String) -> String {
        match self.redact(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(redacted) => redacted,
        }
    }

    /// For content that may be no text.
    pub fn redact_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mut redacted = match String::from_utf8(bytes) {
            Ok(text) => return self.redact_string(text).into_bytes(),
            Err(error) => error.into_bytes(),
        };
        for pattern in self.patterns.iter() {
            redacted = replace(redacted, pattern.text.as_bytes(), pattern.label.as_bytes());
        }
        redacted
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("patterns", &self.patterns.len()).finish()
    }
}

/// How a value is written: as it is, as the environment's file has it, and as `docker inspect` prints it.
fn forms(value: &str) -> [String; 3] {
    let quoted = environment_text([("A", value)]).unwrap_or_default();
    let quoted = quoted.strip_prefix("A=\"").and_then(|rest| rest.strip_suffix("\"\n"));
    let json = serde_json::Value::from(value).to_string();
    let json = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    [value.to_owned(), quoted.unwrap_or_default().to_owned(), json.unwrap_or_default().to_owned()]
}

fn is_everyday(value: &str) -> bool {
    let word = value.to_ascii_lowercase();
    EVERYDAY.contains(&word.as_str()) || value.parse::<IpAddr>().is_ok()
}

fn replace(bytes: Vec<u8>, old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut rest = bytes.as_slice();
    let mut replaced = Vec::new();
    while let Some(at) = rest.windows(old.len().max(1)).position(|window| window == old) {
        let (before, after) = rest.split_at(at);
        replaced.extend_from_slice(before);
        replaced.extend_from_slice(new);
        rest = after.get(old.len()..).unwrap_or_default();
    }
    if replaced.is_empty() && rest.len() == bytes.len() {
        return bytes;
    }
    replaced.extend_from_slice(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Secret;

    fn redactor(values: &[(&str, &str)]) -> Redactor {
        let held = values.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
        Redactor::new(&EnvironmentSource::Held(Arc::new(held.collect())))
    }

    #[test]
    fn values_become_names() {
        let check = |values: &[(&str, &str)], text: &str, expect: &str| {
            assert_eq!(redactor(values).redact(text), expect);
            assert_eq!(redactor(values).redact_bytes(text.into()), expect.as_bytes());
        };
        check(&[("KEY", "s3cr3t")], "key is s3cr3t.", "key is [env KEY].");
        check(&[("KEY", "short")], "short stays", "short stays");
        check(&[("A", "abcdef"), ("B", "abcdefghi")], "abcdefghi abcdef", "[env B] [env A]");
        check(&[("Q", r#"a"b$cd"#)], r#"Q="a\"b\$cd""#, r#"Q="[env Q]""#);
        check(&[("Q", "a\"bcdefg")], r#"{"Env":["Q=a\"bcdefg"]}"#, r#"{"Env":["Q=[env Q]"]}"#);
        check(&[("PEM", "-----BEGIN\nMIIabcdefgh\n-----END")], "MIIabcdefgh", "[env PEM]");
        check(&[("PEM", "a \"quoted\" line\nanother")], r#"PEM="a \"quoted\" line"#, "PEM=\"[env PEM]");
        check(&[("HOST", "0.0.0.0")], "LISTEN 0.0.0.0:8001", "LISTEN 0.0.0.0:8001");
        check(&[("STATE", "running")], "running", "running");
        check(&[("ENV", "Production")], "Production", "Production");
    }

    #[test]
    fn bytes_that_are_no_text_are_redacted_too() {
        let redacted = redactor(&[("KEY", "s3cr3t")]).redact_bytes(b"\xffs3cr3t\xfes3cr3t".to_vec());
        assert_eq!(redacted, b"\xff[env KEY]\xfe[env KEY]");
        let same = redactor(&[("KEY", "s3cr3t")]).redact_bytes(b"\xffother".to_vec());
        assert_eq!(same, b"\xffother");
    }

    #[test]
    fn a_token_joins_them() {
        let both = redactor(&[("KEY", "s3cr3t")]).and("[registry token]", "tok-123456");
        assert_eq!(both.redact("s3cr3t tok-123456"), "[env KEY] [registry token]");
    }
}
