//! A command as settings and Procfiles write it, and the argument list that it means.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A command: one string, or a list with the program and its arguments.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CommandLine {
    Text(String),
    Arguments(Vec<String>),
}

/// What placeholders stand for: `{port}` and `{release}` everywhere, `$PORT` in strings.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    pub port: u16,
    pub release: &'a str,
}

impl CommandLine {
    /// The program and its arguments, with no shell involved. A string is split at spaces and unquoted as a
    /// POSIX shell would; of variables it may have `$PORT` only.
    ///
    /// # Errors
    /// Says what only a shell could do, or that nothing is there.
    pub fn arguments(&self, values: Values) -> Result<Vec<String>, String> {
        let words = match self {
            CommandLine::Arguments(words) => words.clone(),
            CommandLine::Text(text) => split(text, values)?,
        };
        let words: Vec<String> = words.iter().map(|word| fill(word, values)).collect();
        match words.first() {
            Some(program) if !program.trim().is_empty() => Ok(words),
            _ => Err("the command is empty".into()),
        }
    }

    /// As `arguments`, but a string is a line for `sh`.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn shell_arguments(&self, values: Values) -> Result<Vec<String>, String> {
        match self {
            CommandLine::Arguments(_) => self.arguments(values),
            CommandLine::Text(text) if text.trim().is_empty() => Err("the command is empty".into()),
            CommandLine::Text(text) => Ok(vec!["sh".into(), "-c".into(), fill(text, values)]),
        }
    }
}

/// A text with `{port}` and `{release}` put in.
fn fill(text: &str, values: Values) -> String {
    text.replace("{port}", &values.port.to_string()).replace("{release}", values.release)
}

fn split(text: &str, values: Values) -> Result<Vec<String>, String> {
    let expanded = expand(text.trim(), values)?;
    let words = shlex::split(&expanded).ok_or_else(|| format!("a quote is not closed in `{text}`"))?;
    let starts_with_assignment = words.first().is_some_and(|word| is_assignment(word));
    Ok(if starts_with_assignment { [vec!["env".to_string()], words].concat() } else { words })
}

#[derive(Clone, Copy, PartialEq)]
enum Quote {
    None,
    Single,
    Double,
}

/// Puts the port in for `$PORT`, where a shell would, and refuses what else a shell would act on.
fn expand(text: &str, values: Values) -> Result<String, String> {
    let mut expanded = String::new();
    let mut quote = Quote::None;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..).unwrap_or_default();
        let mut taken = character.len_utf8();
        match (character, quote) {
            ('\'', Quote::None) => quote = Quote::Single,
            ('\'', Quote::Single) => quote = Quote::None,
            ('"', Quote::None) => quote = Quote::Double,
            ('"', Quote::Double) => quote = Quote::None,
            ('\\', Quote::None | Quote::Double) => taken += after.chars().next().map_or(0, char::len_utf8),
            ('$', Quote::None | Quote::Double) => {
                let length = port_variable(after).ok_or_else(|| needs_shell(text, &variable(after)))?;
                expanded.push_str(&values.port.to_string());
                rest = after.get(length..).unwrap_or_default();
                continue;
            }
            ('`', Quote::None | Quote::Double) => return Err(needs_shell(text, "`")),
            ('|' | '&' | ';' | '<' | '>' | '(' | ')' | '\n', Quote::None) => {
                return Err(needs_shell(text, &character.to_string()));
            }
            _ => {}
        }
        expanded.push_str(rest.get(..taken).unwrap_or_default());
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(expanded)
}

fn needs_shell(text: &str, what: &str) -> String {
    format!(
        "`{}` in `{text}` needs a shell, but no shell runs this command: write it as sh -c '…'",
        what.escape_default()
    )
}

/// How long `PORT`, `{PORT}` or `{PORT:-8000}` is, right after a `$`.
fn port_variable(after: &str) -> Option<usize> {
    if let Some(braced) = after.strip_prefix("{PORT") {
        let end = braced.find('}')?;
        let default = braced.get(..end)?;
        let known = default.is_empty() || default.starts_with(":-") || default.starts_with('-');
        return known.then_some("{PORT".len() + end + 1);
    }
    let next = after.strip_prefix("PORT")?.chars().next();
    let ends = next.is_none_or(|next| !next.is_ascii_alphanumeric() && next != '_');
    ends.then_some("PORT".len())
}

/// The variable at a `$`, for a message.
fn variable(after: &str) -> String {
    let name: String = after
        .chars()
        .take_while(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | '{' | '}'))
        .collect();
    format!("${name}")
}

/// `NAME=value` before a program, which a shell takes as the program's environment.
fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|other| other.is_ascii_alphanumeric() || other == '_')
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, Values};

    const VALUES: Values = Values { port: 8001, release: "r1" };

    #[test]
    fn a_string_is_split_as_a_shell_would() {
        let check = |text: &str, expect: &[&str]| {
            let words = CommandLine::Text(text.into()).arguments(VALUES);
            assert_eq!(words, Ok(expect.iter().map(ToString::to_string).collect()), "{text}");
        };
        check("uvicorn app.main:app --port $PORT", &["uvicorn", "app.main:app", "--port", "8001"]);
        check("./hello --port={port} --as {release}", &["./hello", "--port=8001", "--as", "r1"]);
        check("serve ${PORT} ${PORT:-80} \"$PORT\"", &["serve", "8001", "8001", "8001"]);
        check("serve --name 'a b' \"c \\\" d\" e\\ f ''", &["serve", "--name", "a b", "c \" d", "e f", ""]);
        check("sh -c 'cat $HOME | wc > x; echo `id`'", &["sh", "-c", "cat $HOME | wc > x; echo `id`"]);
        check("serve \\$HOME --ips=*", &["serve", "$HOME", "--ips=*"]);
        check("PYTHONPATH=src A=b python -m app", &["env", "PYTHONPATH=src", "A=b", "python", "-m", "app"]);
        check("python --app=x", &["python", "--app=x"]);
    }

    #[test]
    fn what_only_a_shell_can_do_is_refused() {
        let check = |text: &str, what: &str| {
            let error = CommandLine::Text(text.into()).arguments(VALUES).expect_err(text);
            assert!(error.contains(what), "{text}: {error}");
        };
        check("migrate && serve", "`&`");
        check("serve | tee log", "`|`");
        check("serve > log", "`>`");
        check("serve --home $HOME", "`$HOME`");
        check("serve \"$(id)\"", "`$`");
        check("serve $PORTAL", "`$PORTAL`");
        check("serve `id`", "```");
        check("serve 'open", "not closed");
        check("", "empty");
        check("  ", "empty");
    }

    #[test]
    fn a_list_is_taken_as_it_is_but_for_placeholders() {
        let list = CommandLine::Arguments(vec!["sh".into(), "-c".into(), "exec x $PORT {port}".into()]);
        assert_eq!(list.arguments(VALUES), Ok(vec!["sh".into(), "-c".into(), "exec x $PORT 8001".into()]));
        assert!(CommandLine::Arguments(vec![]).arguments(VALUES).is_err());
    }

    #[test]
    fn a_build_string_is_a_line_for_the_shell() {
        let line = CommandLine::Text("npm ci && npm run build".into());
        let expect = vec!["sh".into(), "-c".into(), "npm ci && npm run build".into()];
        assert_eq!(line.shell_arguments(VALUES), Ok(expect));
    }

    #[test]
    fn both_forms_are_read_from_json() {
        let read = |json: &str| serde_json::from_str::<CommandLine>(json).ok();
        assert_eq!(read("\"a b\""), Some(CommandLine::Text("a b".into())));
        assert_eq!(read("[\"a\", \"b\"]"), Some(CommandLine::Arguments(vec!["a".into(), "b".into()])));
    }
}
