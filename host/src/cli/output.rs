//! How results and errors are printed: for people, or as JSON.

use std::borrow::Cow;
use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};
use thiserror::Error;

use super::client::ClientError;

/// The command line is not right: exit status 2, as for what its parser refuses.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// What a command prints at its end.
pub fn print(json: bool, value: &Value, text: impl FnOnce() -> String) {
    if json {
        line(&value.to_string());
    } else {
        line(text().trim_end_matches('\n'));
    }
}

/// Prints a line to standard output. A reader that went away (`| head`) is not a reason to panic.
pub fn line(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{}", tame(text)).and_then(|()| output.flush());
}

/// With control characters written out: what a server, a target or a plugin said must not move the cursor here,
/// nor set a window's title. They are written as in JSON, so that a JSON text means what it meant.
fn tame(text: &str) -> Cow<'_, str> {
    let wild = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(wild) {
        return Cow::Borrowed(text);
    }
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        if wild(c) { tamed.push_str(&format!("\\u{:04x}", u32::from(c))) } else { tamed.push(c) }
    }
    Cow::Owned(tamed)
}

/// Prints an error, and says which exit status it has: 2 where the command line is wrong, otherwise 1.
pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let problem = match error.downcast_ref::<ClientError>() {
        Some(ClientError::Problem(problem)) => Some(problem),
        _ => None,
    };
    if json {
        let document = match problem {
            Some(problem) => problem.document.clone(),
            None => json!({ "detail": chain(error).join(": ") }),
        };
        line(&json!({ "error": document }).to_string());
    }
    let mut causes = chain(error).into_iter();
    let mut text = format!("error: {}\n", causes.next().unwrap_or_default());
    for cause in causes {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    if let Some(problem) = problem {
        if problem.errors.len() > 1 {
            for (field, message) in &problem.errors {
                text.push_str(&format!("  {field}: {message}\n"));
            }
        }
        if !problem.hint.is_empty() {
            text.push_str(&format!("hint: {}\n", problem.hint));
        }
    }
    let _ = std::io::stderr().lock().write_all(tame(&text).as_bytes());
    ExitCode::from(if error.downcast_ref::<Usage>().is_some() { 2 } else { 1 })
}

/// An error and its causes. One that only repeats what stands before it is left out, and so are the layers of
/// an HTTP client between what failed and why.
fn chain(error: &anyhow::Error) -> Vec<String> {
    let mut causes: Vec<&dyn std::error::Error> = error.chain().map(|cause| cause as _).collect();
    if let (Some(ClientError::Unreachable { .. } | ClientError::Broken { .. }), true) =
        (error.downcast_ref::<ClientError>(), causes.len() > 2)
    {
        causes.drain(1..causes.len() - 1);
    }
    let mut texts: Vec<String> = Vec::new();
    for cause in causes {
        let text = cause.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
    }
    texts
}

/// Lines of cells, with the columns aligned.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut widths = vec![0; head.len()];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".into(), "long one".into()], vec!["bcd".into(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X    Y\na    long one\nbcd\n");
    }

    #[test]
    fn what_is_printed_does_not_control_the_terminal() {
        assert_eq!(tame("two\nlines\tand ß"), "two\nlines\tand ß");
        assert_eq!(tame("\u{1b}]0;title\u{7} \u{9b}2J \r"), "\\u001b]0;title\\u0007 \\u009b2J \\u000d");
        let value = json!({ "a": "\u{9b}2J\u{7f}\u{1b}" });
        let printed = tame(&value.to_string()).into_owned();
        assert!(!printed.contains('\u{9b}'));
        assert!(serde_json::from_str::<Value>(&printed).is_ok_and(|read| read == value));
    }

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let error = anyhow::anyhow!("cannot read it: no such file").context("cannot start");
        assert_eq!(chain(&error), ["cannot start", "cannot read it: no such file"]);
        let error = anyhow::anyhow!("no such file").context("cannot read it: no such file");
        assert_eq!(chain(&error), ["cannot read it: no such file"]);
    }
}
