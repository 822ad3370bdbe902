//! Takes the environment's values out of what a step says. A second line of defence: values never pass
//! through here on purpose, but a service may print its own environment when it starts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use super::environment::EnvironmentSource;
use fragments::Marks;
use view::View;

mod fragments;
mod view;

/// Shorter values appear in texts by chance, and to replace them would garble every line.
const SHORTEST: usize = 6;
/// One line of a value that has several.
const SHORTEST_LINE: usize = 8;
/// How often a value may have been escaped: an answer in JSON may stand in another one, and that in a log.
const LAYERS: usize = 3;

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
pub struct Redactor(Arc<Known>);

#[derive(Default)]
struct Known {
    /// Longest first, so that a value inside another one does not spoil it.
    patterns: Vec<Pattern>,
    /// Of the patterns that are long.
    marks: Marks,
    /// Texts that stay whole.
    public: Vec<String>,
}

#[derive(Clone)]
struct Pattern {
    text: String,
    label: String,
}

impl Redactor {
    pub fn new(environment: &EnvironmentSource) -> Self {
        let EnvironmentSource::Held(values) = environment else { return Self::default() };
        let patterns =
            values.iter().flat_map(|(name, value)| patterns(&format!("[env {name}]"), value.expose()));
        Self::of(patterns, vec![])
    }

    /// Leaves these texts whole: a plugin compares them with what the target says.
    pub fn sparing(&self, public: &[String]) -> Self {
        Self::of(self.0.patterns.iter().cloned(), public.to_vec())
    }

    /// As well as what it has.
    pub fn and(&self, label: &str, value: &str) -> Self {
        Self::of(self.0.patterns.iter().cloned().chain(patterns(label, value)), self.0.public.clone())
    }

    fn of(patterns: impl Iterator<Item = Pattern>, public: Vec<String>) -> Self {
        let mut known = HashSet::new();
        let mut patterns: Vec<Pattern> = patterns
            .filter(|pattern| !public.iter().any(|text| text.contains(&pattern.text)))
            .filter(|pattern| known.insert(pattern.text.clone()))
            .collect();
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.text.len()));
        let marks = Marks::of(patterns.iter().map(|pattern| pattern.text.as_str()));
        Self(Arc::new(Known { patterns, marks, public }))
    }

    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut redacted = Cow::Borrowed(text);
        for layers in 0..=LAYERS {
            match self.0.redact(&redacted, layers) {
                Found::Values(text) => redacted = Cow::Owned(text),
                Found::Nothing => {}
                Found::NoLayer => break,
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
        match String::from_utf8(bytes) {
            Ok(text) => self.redact_string(text).into_bytes(),
            Err(error) => {
                let mut redacted = Vec::new();
                for chunk in error.as_bytes().utf8_chunks() {
                    redacted.extend_from_slice(self.redact(chunk.valid()).as_bytes());
                    redacted.extend_from_slice(chunk.invalid());
                }
                redacted
            }
        }
    }
}

/// What is in a text below some layers of escapes.
enum Found {
    /// The text without the values.
    Values(String),
    Nothing,
    /// There are not so many layers.
    NoLayer,
}

impl Known {
    fn redact(&self, text: &str, layers: usize) -> Found {
        let mut view = View::of(text);
        for _ in 0..layers {
            match view.unescaped() {
                Some(unescaped) => view = unescaped,
                None => return Found::NoLayer,
            }
        }
        let claims = self.claims(view.text());
        if claims.0.is_empty() {
            return Found::Nothing;
        }
        let mut redacted = String::new();
        let mut kept = 0;
        for (start, (end, label)) in claims.0 {
            let place = view.origins(start..end);
            redacted.push_str(text.get(kept..place.start).unwrap_or_default());
            redacted.push_str(label);
            kept = place.end;
        }
        redacted.push_str(text.get(kept..).unwrap_or_default());
        Found::Values(redacted)
    }

    /// Whole long values, then parts of them, then the short ones: a short value in a long one's part does not
    /// spoil it.
    fn claims(&self, text: &str) -> Claims<'_> {
        let mut claims = Claims::default();
        let long = self.patterns.partition_point(|pattern| pattern.text.len() >= fragments::LONG);
        let (long, short) = self.patterns.split_at_checked(long).unwrap_or_default();
        long.iter().for_each(|pattern| claims.whole(text, pattern));
        self.claim_parts(text, &mut claims);
        short.iter().for_each(|pattern| claims.whole(text, pattern));
        claims
    }

    fn claim_parts<'a>(&'a self, text: &str, claims: &mut Claims<'a>) {
        let value =
            |index: usize| self.patterns.get(index).map(|pattern| pattern.text.as_str()).unwrap_or_default();
        let mut at = 0;
        while at < text.len() && !self.marks.is_empty() {
            if !self.marks.has(text, at) {
                at += 1;
                continue;
            }
            let within = claims.room(at, text.len());
            let part = self.marks.find(text, at, &within, value);
            let pattern = part.as_ref().and_then(|part| self.patterns.get(part.value));
            match (part, pattern) {
                (Some(part), Some(pattern)) if !self.is_public(text, &part.range) => {
                    at = part.range.end;
                    claims.0.insert(part.range.start, (at, &pattern.label));
                }
                _ => at += 1,
            }
        }
    }

    fn is_public(&self, text: &str, part: &Range<usize>) -> bool {
        let part = text.get(part.clone()).unwrap_or_default();
        self.public.iter().any(|public| public.contains(part))
    }
}

/// What is to be replaced: from where, to where, by what.
#[derive(Default)]
struct Claims<'a>(BTreeMap<usize, (usize, &'a str)>);

impl<'a> Claims<'a> {
    /// Claims a pattern wherever nothing else has a part of it.
    fn whole(&mut self, text: &str, pattern: &'a Pattern) {
        let mut from = 0;
        while let Some(found) = text.get(from..).and_then(|rest| rest.find(&pattern.text)) {
            let (start, end) = (from + found, from + found + pattern.text.len());
            let before = self.0.range(..end).next_back().map(|(_, (end, _))| *end);
            match before.filter(|before| *before > start) {
                Some(before) => from = before,
                None => {
                    self.0.insert(start, (end, &pattern.label));
                    from = end;
                }
            }
        }
    }

    /// The unclaimed part of the text around `at`; nothing where that is claimed itself.
    fn room(&self, at: usize, length: usize) -> Range<usize> {
        let before = self.0.range(..=at).next_back().map_or(0, |(_, (end, _))| *end);
        let after = self.0.range(at..).next().map_or(length, |(start, _)| *start);
        before..after
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("patterns", &self.0.patterns.len()).finish()
    }
}

/// What of a value is looked for. White space around it is often not printed.
fn patterns(label: &str, value: &str) -> Vec<Pattern> {
    let value = value.trim();
    if value.len() < SHORTEST || is_everyday(value) {
        return vec![];
    }
    // A longer line is a part of a long value.
    let is_short = |line: &&str| value.len() < fragments::LONG || line.len() < fragments::SHORTEST;
    let lines = value.split(['\n', '\r']).map(str::trim).filter(is_short);
    let telling = lines.filter(|line| line.len() >= SHORTEST_LINE && !is_everyday(line));
    let texts = std::iter::once(value).chain(telling);
    texts.map(|text| Pattern { text: text.to_owned(), label: label.to_owned() }).collect()
}

fn is_everyday(value: &str) -> bool {
    let word = value.to_ascii_lowercase();
    EVERYDAY.contains(&word.as_str()) || value.parse::<IpAddr>().is_ok()
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
    fn values_are_found_however_they_are_escaped() {
        let check = |value: &str, text: &str| {
            let text = format!("<{text}>");
            assert_eq!(redactor(&[("KEY", value)]).redact(&text), "<[env KEY]>", "{text}");
        };
        let value = "pässwörd \"x\" 'y'\n<&>\\😀";
        // As Python's json.dumps, Go's and .NET's print it.
        check(value, r#"p\u00e4ssw\u00f6rd \"x\" 'y'\n<&>\\\ud83d\ude00"#);
        check(value, r#"pässwörd \"x\" 'y'\n\u003c\u0026\u003e\\😀"#);
        check(value, r#"p\u00E4ssw\u00F6rd \u0022x\u0022 \u0027y\u0027\n\u003C\u0026\u003E\\\uD83D\uDE00"#);
        // As Python's repr of a text and of bytes prints it, and Rust's Debug.
        check(value, r#"pässwörd "x" \'y\'\n<&>\\😀"#);
        check(value, r#"p\xc3\xa4ssw\xc3\xb6rd "x" \'y\'\n<&>\\\xf0\x9f\x98\x80"#);
        check(value, r#"p\u{e4}ssw\u{f6}rd \"x\" 'y'\n<&>\\\u{1f600}"#);
        // In JSON in JSON.
        check(value, r#"pässwörd \\\"x\\\" 'y'\\n<&>\\\\😀"#);
        check("a/b/c/d", r"a\/b\/c\/d");
    }

    #[test]
    fn single_lines_count_where_they_tell() {
        let check = |value: &str, text: &str, expect: &str| {
            assert_eq!(redactor(&[("KEY", value)]).redact(text), expect, "{value:?} in {text:?}");
        };
        check("first-secret\nsecond-secret\n", "a second-secret b", "a [env KEY] b");
        check("first-secret\r\n  second-secret\r\n", r"'  second-secret\r'", r"'  [env KEY]\r'");
        check("first-secret\n}\nrunning\n", "} running", "} running");
        // What is read from a file ends with a line break that is not printed.
        check("s3cr3t\n", "s3cr3t.", "[env KEY].");
    }

    #[test]
    fn a_long_part_of_a_long_value_counts() {
        let value: String = (0..100).map(|number| format!("{number:03}x")).collect();
        let part = |range: Range<usize>| value.get(range).unwrap_or_default();
        let check = |values: &[(&str, &str)], text: String, expect: &str| {
            assert_eq!(redactor(values).redact(&text), expect, "{text}");
        };
        let key = [("KEY", value.as_str())];
        check(&key, format!("{}…", part(0..250)), "[env KEY]…");
        check(&key, format!("…{}", part(301..400)), "…[env KEY]");
        check(&key, format!("{}\n{}\n", part(0..76), part(76..152)), "[env KEY]\n[env KEY]\n");
        check(&key, format!("{value}{value}"), "[env KEY][env KEY]");
        check(&key, part(0..31).to_owned(), part(0..31));
        // A short value inside of the part does not hide it, nor does a longer value that begins alike.
        let inside = [("KEY", value.as_str()), ("SHORT", part(40..48))];
        check(&inside, format!("{}…", part(0..80)), "[env KEY]…");
        let longer = format!("{value}{}", "-tail".repeat(20));
        let alike = [("KEY", value.as_str()), ("LONGER", longer.as_str())];
        check(&alike, format!("{longer} {value}"), "[env LONGER] [env KEY]");
    }

    #[test]
    fn what_is_public_stays_whole() {
        let path = "/opt/fpai/services/a-service-with-a-long-name/releases/20261124-031500-999";
        let value = format!("{path}/and/more/of/it");
        let redactor = redactor(&[("DIR", &value), ("NAME", "a-service")]).sparing(&[path.to_owned()]);
        let redactor = redactor.and("[registry token]", "tok-123456");
        let check = |text: &str, expect: &str| assert_eq!(redactor.redact(text), expect);
        check(path, path);
        check("a-service tok-123456", "a-service [registry token]");
        check(&value, "[env DIR]");
    }

    #[test]
    fn a_token_joins_them() {
        let both = redactor(&[("KEY", "s3cr3t")]).and("[registry token]", "tok-123456");
        assert_eq!(both.redact("s3cr3t tok-123456"), "[env KEY] [registry token]");
    }
}
