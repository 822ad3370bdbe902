//! The environment of a service, as the command line takes it: from files, from its own environment, from
//! arguments. No message has a value.

use std::collections::BTreeMap;
use std::path::Path;

use thiserror::Error;

use crate::model::is_variable_name;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum EnvironmentError {
    #[error("cannot read the environment file {path}: {reason}; check --env-file")]
    Read { path: String, reason: String },
    #[error("{path}, line {line}: {problem}")]
    Line { path: String, line: usize, problem: LineProblem },
    #[error("--env takes NAME=value, and {0:?} has no `=`; to take it from here, write --env-from {0}")]
    NoValue(String),
    #[error("--env has the name {0:?}; a name is letters, digits and `_`, and does not begin with a digit")]
    Name(String),
    #[error("--env-from {0}: there is no such variable here; set and export it first")]
    NotSet(String),
    #[error("--env-from {0}: its value is not UTF-8, which a deployment cannot carry")]
    NotText(String),
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum LineProblem {
    #[error("there is no `=`; write NAME=value, or begin a comment with `#`")]
    NoValue,
    /// The text is not shown: it may be a line of an unquoted secret.
    #[error(
        "there is no name before `=`; a name is letters, digits and `_`, and does not begin with a digit"
    )]
    Name,
    #[error("{name} was set in line {first} already; remove one of the two")]
    Repeated { name: String, first: usize },
    #[error("{name}: the quote that begins here is not closed")]
    Unclosed { name: String },
    #[error("{name}: there is more after the closing quote; quote the whole value")]
    Trailing { name: String },
}

/// Collects a service's environment: later sources (`--env-from`, then `--env`) replace earlier ones.
pub fn collect(
    files: &[std::path::PathBuf],
    from: &[String],
    arguments: &[String],
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut variables = BTreeMap::new();
    for file in files {
        variables.extend(read(file)?);
    }
    for name in from {
        let value = std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => EnvironmentError::NotSet(name.clone()),
            std::env::VarError::NotUnicode(_) => EnvironmentError::NotText(name.clone()),
        })?;
        variables.insert(name.clone(), value);
    }
    for argument in arguments {
        let (name, value) =
            argument.split_once('=').ok_or_else(|| EnvironmentError::NoValue(argument.clone()))?;
        if !is_variable_name(name) {
            return Err(EnvironmentError::Name(name.to_owned()));
        }
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

fn read(path: &Path) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| EnvironmentError::Read { path: shown.clone(), reason: error.to_string() })?;
    parse(&text).map_err(|(line, problem)| EnvironmentError::Line { path: shown, line, problem })
}

/// Reads lines of `NAME=value`. `export ` may stand before a name. A value without quotes goes to the line's
/// end, `#` and all. In single quotes everything is as it stands; in double quotes `\n`, `\r`, `\t`, `\"`,
/// `\\`, `\$` and a `\` at a line's end are read as in a shell. Quoted values may go over several lines.
/// Variables are not replaced.
fn parse(text: &str) -> Result<BTreeMap<String, String>, (usize, LineProblem)> {
    let mut variables = BTreeMap::new();
    let mut first_lines: BTreeMap<String, usize> = BTreeMap::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let (current, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = current.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after;
            line += 1;
            continue;
        }
        let (name, value) = current.split_once('=').ok_or((line, LineProblem::NoValue))?;
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        if !is_variable_name(name) {
            return Err((line, LineProblem::Name));
        }
        if let Some(first) = first_lines.insert(name.to_owned(), line) {
            return Err((line, LineProblem::Repeated { name: name.to_owned(), first }));
        }
        let value = value.trim_start();
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                // The quoted text may end on a later line, so it is looked for in all that is left.
                let quoted = rest.get(current.len() - value.len()..).unwrap_or_default();
                let (value, length) = unquote(quoted, quote)
                    .ok_or_else(|| (line, LineProblem::Unclosed { name: name.to_owned() }))?;
                let remaining = quoted.get(length..).unwrap_or_default();
                let (behind, after) = remaining.split_once('\n').unwrap_or((remaining, ""));
                let behind = behind.trim();
                if !behind.is_empty() && !behind.starts_with('#') {
                    return Err((line, LineProblem::Trailing { name: name.to_owned() }));
                }
                line += quoted.get(..length).unwrap_or_default().matches('\n').count();
                rest = after;
                value
            }
            _ => {
                rest = after;
                value.trim_end().to_owned()
            }
        };
        line += 1;
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

/// The value of a text that begins with a quote, and how many bytes it took with both quotes.
fn unquote(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        if character == quote {
            return Some((value, index + 1));
        }
        if character != '\\' || quote == '\'' {
            value.push(character);
            continue;
        }
        match characters.next()?.1 {
            'n' => value.push('\n'),
            'r' => value.push('\r'),
            't' => value.push('\t'),
            '\n' => {}
            plain @ ('"' | '\\' | '$' | '`') => value.push(plain),
            other => value.extend(['\\', other]),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, &str)]) {
        let expect: BTreeMap<String, String> =
            expect.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(parse(text), Ok(expect), "{text:?}");
    }

    fn check_wrong(text: &str, line: usize, part: &str) {
        let (at, problem) = parse(text).err().unwrap_or((0, LineProblem::NoValue));
        assert_eq!(at, line, "{text:?}: {problem}");
        assert!(problem.to_string().contains(part), "{text:?}: {problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }

    #[test]
    fn values_are_read_as_they_stand() {
        check("", &[]);
        check("# comment\n\n  # another\nA=1\n", &[("A", "1")]);
        check("A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")]);
        check("export A = spaced out  \n", &[("A", "spaced out")]);
        check("A=\nB=", &[("A", ""), ("B", "")]);
        check(
            "URL=postgres://u:p#ss@h/db?a=b # no comment",
            &[("URL", "postgres://u:p#ss@h/db?a=b # no comment")],
        );
        check("A=it's\n", &[("A", "it's")]);
        check("\u{feff}A=$HOME\n", &[("A", "$HOME")]);
    }

    #[test]
    fn quotes_keep_what_is_in_them() {
        check("A=' x '\nB=2", &[("A", " x "), ("B", "2")]);
        check("A=\"a\\nb\\\"c\\\\d\\$e\\qf\" # comment\n", &[("A", "a\nb\"c\\d$e\\qf")]);
        check("A='a\\nb'\n", &[("A", "a\\nb")]);
        check(
            "KEY=\"-----BEGIN-----\nabc\n-----END-----\"\nB=2\n",
            &[("KEY", "-----BEGIN-----\nabc\n-----END-----"), ("B", "2")],
        );
        check("A=\"one \\\nline\"", &[("A", "one line")]);
        check("A=\"\u{e9}\u{fc}\" \nB='\u{2713}'", &[("A", "\u{e9}\u{fc}"), ("B", "\u{2713}")]);
    }

    #[test]
    fn a_wrong_line_is_named_and_no_value_is_shown() {
        check_wrong("A=1\nhunter2\n", 2, "there is no `=`");
        check_wrong("1A=hunter2\n", 1, "no name");
        check_wrong("-----BEGIN\nhunter2+/==\n", 1, "there is no `=`");
        check_wrong("hunter2+/==\n", 1, "no name");
        check_wrong("A=hunter2\nB=x\nA=hunter2", 3, "line 1");
        check_wrong("A='x\ny'\nB=\"hunter2\n", 3, "not closed");
        check_wrong("A=\"x\" hunter2\n", 1, "after the closing quote");
    }

    #[test]
    fn arguments_replace_what_files_say() {
        let argument = |text: &str| collect(&[], &[], &[text.to_owned()]);
        assert_eq!(argument("A=b=c").ok().and_then(|all| all.get("A").cloned()).as_deref(), Some("b=c"));
        assert_eq!(argument("A"), Err(EnvironmentError::NoValue("A".into())));
        assert_eq!(argument("A-B=hunter2"), Err(EnvironmentError::Name("A-B".into())));
        let missing = collect(&[], &["DEPLOYER_TEST_NOT_SET".into()], &[]);
        assert_eq!(missing, Err(EnvironmentError::NotSet("DEPLOYER_TEST_NOT_SET".into())));
    }
}
