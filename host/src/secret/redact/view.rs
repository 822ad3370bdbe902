//! A text with its escapes undone, and where each part of it stands in the text itself.
//!
//! What prints a value escapes it in its own way: JSON, with or without `\uXXXX`, Python's and JavaScript's
//! literals, the environment's file, a URL. Undone, they are all the same.

use std::borrow::Cow;
use std::ops::Range;

pub struct View<'a> {
    text: Cow<'a, str>,
    /// For each byte of the view, and for its end, where that stands in the text. None: at the same place.
    origins: Option<Vec<usize>>,
}

impl<'a> View<'a> {
    /// The text as it is.
    fn of(text: &'a str) -> Self {
        Self { text: Cow::Borrowed(text), origins: None }
    }

    /// The text with so many layers of escapes undone; none when there are not so many.
    pub fn below(text: &'a str, layers: usize) -> Option<Self> {
        (0..layers).try_fold(Self::of(text), |view, _| view.unescaped())
    }

    /// With one layer of escapes undone; none when there is none.
    fn unescaped(&self) -> Option<View<'a>> {
        self.text.contains('\\').then(|| self.undone(escape))
    }

    /// With the escapes of URLs undone; none when there is none.
    pub fn out_of_url(&self) -> Option<View<'a>> {
        self.text.contains('%').then(|| self.undone(|text| bytes(text, "%")))
    }

    fn undone(&self, escape: impl Fn(&str) -> Option<(char, usize)>) -> View<'a> {
        let (mut text, mut origins) = (String::new(), Vec::new());
        let (mut at, mut rest) = (0, self.text.as_ref());
        while let Some(first) = rest.chars().next() {
            let (character, length) = escape(rest).unwrap_or((first, first.len_utf8()));
            text.push(character);
            origins.resize(text.len(), self.origin(at));
            at += length;
            rest = rest.get(length..).unwrap_or_default();
        }
        origins.push(self.origin(at));
        View { text: Cow::Owned(text), origins: Some(origins) }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a part of the view, between two characters, stands in the text.
    pub fn origins(&self, part: Range<usize>) -> Range<usize> {
        self.origin(part.start)..self.origin(part.end)
    }

    fn origin(&self, at: usize) -> usize {
        self.origins.as_ref().map_or(at, |origins| origins.get(at).copied().unwrap_or(at))
    }
}

/// The character that an escape at the text's beginning stands for, and the escape's length.
fn escape(text: &str) -> Option<(char, usize)> {
    let escaped = text.strip_prefix('\\')?;
    let kind = escaped.chars().next()?;
    let simple = |character| Some((character, 1 + kind.len_utf8()));
    match kind {
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'b' => simple('\u{8}'),
        'f' => simple('\u{c}'),
        'v' => simple('\u{b}'),
        'x' => bytes(text, "\\x"),
        'u' => unicode(text),
        'U' => Some((char::from_u32(digits(text, 2, 8)?)?, 10)),
        other => simple(other),
    }
}

/// `\xc3\xa9` is a character of two bytes where bytes are printed; `\xa0` is one by itself where text is. In URLs it is
/// `%C3%A9`.
fn bytes(text: &str, prefix: &str) -> Option<(char, usize)> {
    let width = prefix.len() + 2;
    let byte = |index: usize| {
        let escape = text.get(width * index..)?.strip_prefix(prefix)?;
        u8::try_from(digits(escape, 0, 2)?).ok()
    };
    let first = byte(0)?;
    let all: Vec<u8> = (0..first.leading_ones().clamp(1, 4) as usize).map_while(byte).collect();
    let whole = std::str::from_utf8(&all).ok().and_then(|text| text.chars().next());
    Some(whole.map_or((char::from(first), width), |character| (character, width * all.len())))
}

/// `\u00e9`, `\ud83d\ude00` or `\u{e9}`.
fn unicode(text: &str) -> Option<(char, usize)> {
    if let Some(braced) = text.strip_prefix("\\u{") {
        // No further than it can be: a text may have many that do not end.
        let length = braced.bytes().take(7).position(|byte| byte == b'}').filter(|length| *length > 0)?;
        return Some((char::from_u32(digits(braced, 0, length)?)?, 4 + length));
    }
    let first = digits(text, 2, 4)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = digits(text.get(6..)?.strip_prefix("\\u")?, 0, 4)?;
    let pair = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    char::decode_utf16(pair).next()?.ok().map(|character| (character, 12))
}

/// A number in hexadecimal.
fn digits(text: &str, from: usize, count: usize) -> Option<u32> {
    let digits = text.get(from..from + count)?;
    // A sign is a number's for Rust.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_found_again() {
        let check = |text: &str, expect: &str| {
            let view = View::of(text).unescaped().unwrap();
            assert_eq!(view.text(), expect, "{text}");
            assert_eq!(view.origins(0..view.text().len()), 0..text.len(), "{text}");
        };
        check(r#"a\"b\\c\/d\$e\`f\'g"#, r#"a"b\c/d$e`f'g"#);
        check(r"a\nb\tc\r", "a\nb\tc\r");
        check(r"\u00e9\u00E9\u{e9}\U000000e9\xe9", "ééééé");
        check(r"\ud83d\ude00 \xf0\x9f\x98\x80 \U0001f600", "😀 😀 😀");
        check(r"\xc3\xa9 \x1b \xa0", "é \u{1b} \u{a0}");
        // What is none stays.
        check(r"\u12 \ud83d \x+1 \u{} end\", r"\u12 \ud83d \x+1 \u{} end\");
    }

    #[test]
    fn the_escapes_of_urls_are_undone() {
        let check = |text: &str, expect: &str| {
            let view = View::of(text).out_of_url().unwrap();
            assert_eq!(view.text(), expect, "{text}");
            assert_eq!(view.origins(0..view.text().len()), 0..text.len(), "{text}");
        };
        check("p%40ss%2Fw%25rd%26x%3D1%3Fy", "p@ss/w%rd&x=1?y");
        check("p%C3%A4ssw%c3%b6rd %E9 100% %zz", "p\u{e4}ssw\u{f6}rd \u{e9} 100% %zz");
        assert!(View::of("a+b").out_of_url().is_none());
    }

    #[test]
    fn a_part_has_its_place_in_the_text_below_all_layers() {
        let text = r#"say "a\\\"é" end"#;
        let once = View::of(text).unescaped().unwrap();
        let twice = once.unescaped().unwrap();
        assert_eq!((once.text(), twice.text()), (r#"say "a\"é" end"#, r#"say "a"é" end"#));
        let at = twice.text().find("a\"é").unwrap();
        assert_eq!(text.get(twice.origins(at..at + 4)), Some(r#"a\\\"é"#));
        assert!(twice.unescaped().is_none());
    }
}
