//! How much a plugin may say and ask for: every limit, and how a text is cut. Only numbers and decisions; where they
//! hold is the other files' business.

use serde_json::Value;

/// Bytes that go from a plugin to the host in one call or one answer. The engine ends the plugin where it is more.
pub const HANDED_OVER: usize = 40 << 20;
/// The same for `describe`, which answers from constants.
pub const DESCRIBED: usize = 1 << 20;

/// Host calls of one call of a plugin.
pub const CALLS: u64 = 10_000;
/// Refused host calls of one call of a plugin that are on record. The others are counted.
pub const REFUSED_ON_RECORD: u64 = 100;
/// Bytes of all words of a command together.
pub const ARGUMENTS: usize = 128 << 10;
/// Bytes for a command's standard input.
pub const INPUT: usize = 32 << 20;
/// Bytes of a file that is read or written as one value.
pub const FILE: u64 = 16 << 20;
/// Bytes of a path.
pub const PATH: usize = 4096;
/// Bytes of log lines of one call of a plugin.
pub const LOG: u64 = 8 << 20;

/// Bytes of one text in a call's record, and of all of them.
pub const RECORDED_TEXT: usize = 16 << 10;
pub const RECORDED: usize = 64 << 10;
/// The same for a call that was refused: what was wrong is in its error.
pub const REFUSED_TEXT: usize = 256;
pub const REFUSED: usize = 1 << 10;

/// Findings of one validator.
pub const FINDINGS: usize = 1_000;
/// Probes of one verdict that are kept: the first and the last.
pub const PROBES: usize = 1_000;
/// Bytes of one free text of an answer: a message, an error's words. More is cut.
pub const TEXT: usize = 16 << 10;
/// Bytes of all free texts of an answer together.
pub const TEXTS: usize = 1 << 20;
/// Bytes of what things are found again by: a reference, a name, a digest, a path. More is refused.
pub const IDENTIFIER: usize = 4096;
/// Bytes of the words of a command that an instance is said to have.
pub const COMMAND: usize = 16 << 10;
/// Bytes of a registry's answer.
pub const RESPONSE: usize = 64 << 10;

/// Lines and bytes of an instance's log.
pub const TAIL_LINES: usize = 100;
pub const TAIL: usize = 64 << 10;

/// Bytes of a plugin's file. Components of interpreted languages have tens of MiB.
pub const COMPONENT: u64 = 64 << 20;
/// Bytes of a plugin's name, and of its version.
pub const NAME: usize = 64;
/// Bytes of a plugin's summary.
pub const SUMMARY: usize = 1 << 10;
/// Bytes of its settings' schema, how deep it is, and how many values it has.
pub const SCHEMA: usize = 64 << 10;
pub const SCHEMA_DEPTH: usize = 32;
pub const SCHEMA_VALUES: usize = 4_096;

/// The beginning of a text, with a word on how long it was. At most `most` bytes and that word.
pub fn cut(text: &mut String, most: usize) {
    let bytes = text.len();
    if bytes <= most {
        return;
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(&format!("… (cut here: {bytes} bytes in all)"));
    // A text of megabytes would keep its room.
    text.shrink_to_fit();
}

/// A text that is shown in the middle of a sentence.
pub fn brief(text: &str) -> String {
    const BRIEF: usize = 200;
    let mut end = text.len().min(BRIEF);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut brief = text.get(..end).unwrap_or_default().to_owned();
    if end < text.len() {
        brief.push_str(&format!("… ({} bytes in all)", text.len()));
    }
    brief
}

/// Cuts the free texts of one answer, so that each has at most `TEXT` bytes, and all at most `TEXTS`.
pub fn cut_all<'a>(texts: impl IntoIterator<Item = &'a mut String>) {
    let mut texts: Vec<&mut String> = texts.into_iter().collect();
    texts.iter_mut().for_each(|text| cut(text, TEXT));
    if texts.iter().map(|text| text.len()).sum::<usize>() > TEXTS {
        let share = TEXTS / texts.len().max(1);
        texts.iter_mut().for_each(|text| cut(text, share));
    }
}

/// What is recorded of a call's arguments: each text cut, and no more in all than the record takes.
pub fn recorded(mut value: Value, text: usize, all: usize) -> Value {
    let mut left = all;
    shorten(&mut value, text, &mut left);
    value
}

fn shorten(value: &mut Value, text: usize, left: &mut usize) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => *left = left.saturating_sub(8),
        Value::String(one) => {
            cut(one, text.min(*left));
            *left = left.saturating_sub(one.len());
        }
        Value::Array(items) => {
            let count = items.len();
            let mut kept = 0;
            for item in items.iter_mut() {
                if *left == 0 {
                    break;
                }
                shorten(item, text, left);
                // What stands around it.
                *left = left.saturating_sub(4);
                kept += 1;
            }
            if kept < count {
                items.truncate(kept);
                items.push(Value::String(format!("… ({count} in all)")));
                items.shrink_to_fit();
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| shorten(field, text, left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_is_cut_with_a_word_on_its_length() {
        let check = |given: &str, most: usize, expect: &str| {
            let mut text = given.to_owned();
            cut(&mut text, most);
            assert_eq!(text, expect);
        };
        check("short", 5, "short");
        check("longer", 4, "long… (cut here: 6 bytes in all)");
        check("größe", 3, "gr… (cut here: 7 bytes in all)");
        check("", 0, "");
        assert_eq!(brief("x"), "x");
        assert_eq!(brief(&"x".repeat(300)), format!("{}… (300 bytes in all)", "x".repeat(200)));
    }

    #[test]
    fn the_texts_of_an_answer_share_their_room() {
        let mut few = vec!["x".repeat(TEXT + 1), "y".into()];
        cut_all(&mut few);
        assert!(few[0].len() < TEXT + 64 && few[1] == "y");
        let mut many = vec!["x".repeat(TEXT); 3_000];
        cut_all(&mut many);
        let all: usize = many.iter().map(String::len).sum();
        assert!(all < TEXTS + 3_000 * 64, "{all}");
    }

    #[test]
    fn a_record_stays_small_whatever_was_asked() {
        let small = json!({ "argv": ["docker", "ps"], "input_bytes": null });
        assert_eq!(recorded(small.clone(), REFUSED_TEXT, REFUSED), small);
        let check = |value: Value, text: usize, all: usize, most: usize| {
            let length = recorded(value, text, all).to_string().len();
            assert!(length <= most, "{length} bytes where {most} are the most");
        };
        check(json!({ "path": "x".repeat(30 << 20) }), REFUSED_TEXT, REFUSED, 512);
        check(json!({ "argv": vec!["x".repeat(500); 10_000] }), REFUSED_TEXT, REFUSED, 2048);
        check(json!({ "argv": vec![""; 1_000_000] }), REFUSED_TEXT, REFUSED, 2048);
        check(json!({ "argv": vec!["x".repeat(1 << 20); 20] }), RECORDED_TEXT, RECORDED, 70 << 10);
        let told = recorded(json!(["x".repeat(100), "y"]), 10, 1000);
        assert_eq!(told, json!([format!("{}… (cut here: 100 bytes in all)", "x".repeat(10)), "y"]));
    }
}
