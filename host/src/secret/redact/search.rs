//! Finds values in a text: one automaton has all of them and their lines, and another one the marks in long ones.
//! They are two, because the states of the first would nearly all be findings of the second, which makes it slow to
//! build.
//!
//! The work is linear in the text: at each place there is what ends there, and for a mark a look at the few values
//! that have the same bytes at one of theirs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError};

use super::parts::{self, Mark};

/// Shorter values appear in texts by chance, and to replace them would garble every line.
pub const SHORTEST: usize = 6;
/// The beginning of a value that was cut off counts where it has this many bytes, or is half of the value.
const BEGINNING: usize = 12;
/// A longer beginning is a part, or the value is that short.
const LONGEST_BEGINNING: usize = parts::LONG;
/// How many values with the same beginning are looked at.
const ALIKE: usize = 16;

/// A text to look for, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub text: String,
    pub label: Arc<str>,
}

pub struct Search {
    /// By their texts, each once.
    patterns: Vec<Pattern>,
    /// Finds the patterns, by their places among them.
    whole: AhoCorasick,
    /// Finds the seeds, by the places of their marks.
    seeds: AhoCorasick,
    /// For each seed.
    marks: Vec<Vec<Mark>>,
    /// Texts that stay whole.
    spared: Vec<String>,
}

/// A place in a text where a value is, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub range: Range<usize>,
    pattern: usize,
    is_whole: bool,
}

impl Search {
    /// # Errors
    /// When there is more than an automaton can have.
    pub fn new(mut patterns: Vec<Pattern>, spared: Vec<String>) -> Result<Self, BuildError> {
        patterns.sort_by(|a, b| a.text.cmp(&b.text));
        patterns.dedup_by(|later, first| later.text == first.text);
        let mut marks: HashMap<[u8; parts::SEED], Vec<Mark>> = HashMap::new();
        for (value, pattern) in patterns.iter().enumerate() {
            for (seed, at) in parts::seeds(&pattern.text) {
                let alike = marks.entry(seed).or_default();
                if alike.len() < parts::ALIKE {
                    alike.push(Mark { value, at });
                }
            }
        }
        let (seeds, marks): (Vec<_>, Vec<_>) = marks.into_iter().unzip();
        let whole = automaton(patterns.iter().map(|pattern| pattern.text.as_bytes()))?;
        let seeds = automaton(seeds.iter().map(<[u8; parts::SEED]>::as_slice))?;
        Ok(Self { patterns, whole, seeds, marks, spared })
    }

    pub fn label(&self, span: &Span) -> &str {
        self.patterns.get(span.pattern).map_or("[env]", |pattern| &*pattern.label)
    }

    /// Where values are, from the text's beginning to its end; no two overlap. `cut` is whether the text was cut
    /// off.
    pub fn spans(&self, text: &str, cut: bool) -> Vec<Span> {
        let whole = self.whole.find_overlapping_iter(text);
        let whole = whole.map(|found| (found.range(), found.pattern().as_usize()));
        let mut spans: Vec<Span> =
            whole.map(|(range, pattern)| Span { range, pattern, is_whole: true }).collect();
        self.add_parts(text, &mut spans);
        if cut {
            spans.extend(self.beginnings(text));
        }
        joined(spans)
    }

    fn add_parts(&self, text: &str, spans: &mut Vec<Span>) {
        if self.marks.is_empty() {
            return;
        }
        // How far each value's parts were found.
        let mut reached: HashMap<usize, usize> = HashMap::new();
        for found in self.seeds.find_overlapping_iter(text) {
            let (at, marks) = (found.start(), self.marks.get(found.pattern().as_usize()));
            let before = spans.len();
            for mark in marks.into_iter().flatten() {
                // Inside of a part that was found, no other is looked for, but by which it may go on.
                let most_before = match reached.get(&mark.value).map_or(0, |end| end.saturating_sub(at)) {
                    0 => usize::MAX,
                    1..parts::SHORTEST => parts::SHORTEST,
                    _ => continue,
                };
                let value = self.patterns.get(mark.value).map_or("", |pattern| &pattern.text);
                let range = parts::around(text, at, value, mark.at, most_before);
                if let Some(range) = range.filter(|range| !self.is_spared(text, range)) {
                    spans.push(Span { range, pattern: mark.value, is_whole: false });
                }
            }
            for part in spans.iter().skip(before) {
                let reached = reached.entry(part.pattern).or_default();
                *reached = part.range.end.max(*reached);
            }
        }
    }

    fn is_spared(&self, text: &str, part: &Range<usize>) -> bool {
        let part = text.get(part.clone()).unwrap_or_default();
        self.spared.iter().any(|spared| spared.contains(part))
    }

    /// Beginnings of values where the text was cut off.
    fn beginnings(&self, text: &str) -> Vec<Span> {
        // A character that was cut in its middle is shown as this one.
        let end = text.trim_end_matches(|c: char| c == '\u{fffd}' || c.is_whitespace()).len();
        let ellipses = text.match_indices('…').chain(text.match_indices("...")).map(|(at, _)| at);
        ellipses.chain([end]).filter_map(|place| self.beginning(text, place)).collect()
    }

    /// The longest beginning of a value that ends at a place.
    fn beginning(&self, text: &str, place: usize) -> Option<Span> {
        (SHORTEST..LONGEST_BEGINNING).rev().find_map(|length| {
            let range = place.checked_sub(length)?..place;
            let beginning = text.get(range.clone())?;
            let from = self.patterns.partition_point(|pattern| pattern.text.as_str() < beginning);
            let alike = self.patterns.iter().enumerate().skip(from).take(ALIKE);
            let mut alike = alike.take_while(|(_, pattern)| pattern.text.starts_with(beginning));
            let tells = |text: &str| length >= BEGINNING || 2 * length >= text.len();
            let (pattern, _) = alike.find(|(_, pattern)| tells(&pattern.text))?;
            let is_secret = !self.is_spared(text, &range);
            is_secret.then_some(Span { range, pattern, is_whole: false })
        })
    }
}

fn automaton<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Result<AhoCorasick, BuildError> {
    // The other kinds take much more memory, or time.
    AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(texts)
}

/// Spans that overlap are one, which is called by the longest of them.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.range.start, std::cmp::Reverse(span.range.end)));
    let mut joined: Vec<Span> = Vec::new();
    let mut longest = (0, false);
    for span in spans {
        let rank = (span.range.len(), span.is_whole);
        match joined.last_mut().filter(|last| span.range.start < last.range.end) {
            Some(last) => {
                last.range.end = last.range.end.max(span.range.end);
                if rank > longest {
                    longest = rank;
                    last.pattern = span.pattern;
                }
            }
            None => {
                longest = rank;
                joined.push(span);
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(values: &[&str], text: &str, cut: bool) -> Vec<(Range<usize>, String)> {
        let pattern = |value: &&str| Pattern { text: (*value).into(), label: (*value).into() };
        let search = Search::new(values.iter().map(pattern).collect(), vec![]).unwrap();
        let found = search.spans(text, cut);
        found.iter().map(|span| (span.range.clone(), search.label(span).to_owned())).collect()
    }

    #[test]
    fn what_overlaps_is_one_and_what_touches_is_two() {
        let check = |values: &[&str], text: &str, expect: &[(Range<usize>, &str)]| {
            let expect: Vec<_> =
                expect.iter().map(|(range, label)| (range.clone(), (*label).into())).collect();
            assert_eq!(spans(values, text, false), expect, "{text}");
        };
        check(&["abcdef", "abcdefghi"], "abcdefghi abcdef", &[(0..9, "abcdefghi"), (10..16, "abcdef")]);
        // Neither leaves a piece of the other.
        check(&["abcdef", "defghijk"], "abcdefghijk", &[(0..11, "defghijk")]);
        check(&["abcdef"], "abcdefabcdef", &[(0..6, "abcdef"), (6..12, "abcdef")]);
        check(&["abcabc"], "abcabcabc", &[(0..9, "abcabc")]);
        check(&["abcdef"], "abcde", &[]);
    }

    #[test]
    fn the_beginning_of_a_value_counts_where_the_text_was_cut() {
        let check = |value: &str, text: &str, expect: Option<Range<usize>>| {
            let found = spans(&[value], text, true);
            assert_eq!(found.first().map(|(range, _)| range.clone()), expect, "{text}");
            assert!(expect.is_none() || spans(&[value], text, false).is_empty(), "{text}");
        };
        let token = "0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b";
        check(token, "token: 0a1b2c3d4e5f6a7b8c", Some(7..25));
        check(token, "token: 0a1b2c3d4e5f6a7b8c… [9 bytes left out]", Some(7..25));
        check(token, "`token: 0a1b2c3d4e5f6a7b8c...` is the body", Some(8..26));
        check(token, "token: 0a1b2c3d4e5f\u{fffd}", Some(7..19));
        // So few bytes stand there by chance.
        check(token, "token: 0a1b2c3d", None);
        check("hunter22", "password: hunter", Some(10..16));
        check("hunter22", "password: hunt", None);
        check(token, "0a1b2c3d4e5f6a7b8c in the middle", None);
    }
}
