//! What stands in an environment's file on the target: the way back of `environment.place`. Only the host reads it,
//! in order to take the values out of what it records.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use crate::secret::Secret;

/// The variables in an environment's file. Which of both forms it has is seen from the text; one that could be both
/// is read as `quoted`, whose values are in the other form's.
pub fn placed(text: &str) -> BTreeMap<String, Secret> {
    quoted(text).unwrap_or_else(|| plain(text))
}

/// `NAME="value"`, over several lines where the value has several. None where the text is something else.
fn quoted(text: &str) -> Option<BTreeMap<String, Secret>> {
    let mut variables = BTreeMap::new();
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let name: String = std::iter::from_fn(|| rest.next_if(|c| !matches!(c, '=' | '\n'))).collect();
        if name.is_empty() || rest.next() != Some('=') || rest.next() != Some('"') {
            return None;
        }
        let value = quoted_value(&mut rest)?;
        if !matches!(rest.next(), None | Some('\n')) {
            return None;
        }
        variables.insert(name, Secret::new(value));
    }
    Some(variables)
}

/// What stands before the closing quotation mark, which is taken too.
fn quoted_value(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut value = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(value),
            '\\' => value.push(rest.next_if(|c| matches!(c, '"' | '\\' | '$' | '`'))?),
            other => value.push(other),
        }
    }
}

/// `NAME=value`, one on each line.
fn plain(text: &str) -> BTreeMap<String, Secret> {
    let variables = text.lines().filter_map(|line| line.split_once('='));
    variables.map(|(name, value)| (name.to_owned(), Secret::new(value))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::ssh::environment_text;

    fn check(text: &str, expect: &[(&str, &str)]) {
        let found = placed(text);
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn both_forms_are_read() {
        check("", &[]);
        check("A=b c\nB=\n", &[("A", "b c"), ("B", "")]);
        check("A=a\"b\nB=$x\\\n", &[("A", "a\"b"), ("B", "$x\\")]);
        check("A=b=c", &[("A", "b=c")]);
        check("discovery.type=single-node\n", &[("discovery.type", "single-node")]);
        check("A=\"b c\"\nB=\"\"\n", &[("A", "b c"), ("B", "")]);
        check("A=\"two\nlines=x\n\"\nB=\"\\\"\\\\\\$\\`\"\n", &[("A", "two\nlines=x\n"), ("B", "\"\\$`")]);
        // What is quoted in one line and not in the next is not this tool's quoting.
        check("A=\"b\"\nB=c\n", &[("A", "\"b\""), ("B", "c")]);
        check("A=\"b\\n\"\n", &[("A", "\"b\\n\"")]);
        check("A=\"cut off", &[("A", "\"cut off")]);
    }

    #[test]
    fn what_was_placed_is_read_back() {
        let awkward =
            ["", " ' \" ", "$(x) `y` ${z} \\", "a\nb\n\n", "größe 🚀", "A=\"b\"\nC=d", "ends with \\\""];
        for value in awkward {
            let text = environment_text([("FIRST", value), ("SECOND", "there")]).unwrap();
            check(&text, &[("FIRST", value), ("SECOND", "there")]);
        }
    }
}
