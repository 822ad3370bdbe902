//! Parts of long values: what a tool cut off, or broke into lines, is still a secret.
//!
//! Only parts that are long and telling count. The work is bounded: for each place in the text, a look at the
//! few values that have the same eight bytes at one of their marks.

use std::collections::HashMap;
use std::ops::Range;

/// Shorter values are found whole or not at all.
pub const LONG: usize = 64;
/// The shortest part, in bytes.
pub const SHORTEST: usize = 32;

/// The bytes at a mark.
const SEED: usize = 8;
/// From one mark to the next: every part of the shortest length has a whole seed in it.
const STEP: usize = SHORTEST - SEED;
/// How many marks with the same seed are looked at.
const ALIKE: usize = 8;
/// A part with fewer different bytes is a line of dashes, or a row of zeros.
const DIFFERENT: usize = 6;

/// Where the long ones of some values have which bytes.
#[derive(Default)]
pub struct Marks(HashMap<[u8; SEED], Vec<Mark>>);

struct Mark {
    value: usize,
    at: usize,
}

/// A part of a value, in a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Fragment {
    pub range: Range<usize>,
    /// Which of the values.
    pub value: usize,
}

impl Marks {
    pub fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut marks: HashMap<[u8; SEED], Vec<Mark>> = HashMap::new();
        for (value, text) in values.enumerate().filter(|(_, text)| text.len() >= LONG) {
            for at in (0..text.len()).step_by(STEP) {
                let Some(seed) = seed(text, at) else { break };
                let alike = marks.entry(seed).or_default();
                if alike.len() < ALIKE {
                    alike.push(Mark { value, at });
                }
            }
        }
        Self(marks)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a seed at `at`: a quick look, for each place in a text.
    pub fn has(&self, text: &str, at: usize) -> bool {
        seed(text, at).is_some_and(|seed| self.0.contains_key(&seed))
    }

    /// The longest part around the seed at `at` that lies in `within`.
    pub fn find<'a>(
        &self,
        text: &str,
        at: usize,
        within: &Range<usize>,
        value: impl Fn(usize) -> &'a str,
    ) -> Option<Fragment> {
        let alike = self.0.get(&seed(text, at)?)?;
        let parts = alike.iter().filter_map(|mark| {
            let range = part(text, at, within, value(mark.value), mark.at)?;
            Some(Fragment { range, value: mark.value })
        });
        parts.max_by_key(|part| part.range.len())
    }
}

fn seed(text: &str, at: usize) -> Option<[u8; SEED]> {
    text.as_bytes().get(at..)?.first_chunk().copied()
}

/// What the text around `at` has in common with the value around `mark`.
fn part(text: &str, at: usize, within: &Range<usize>, value: &str, mark: usize) -> Option<Range<usize>> {
    let before = text.as_bytes().get(within.start..at)?;
    let after = text.as_bytes().get(at..within.end)?;
    let (value_before, value_after) = value.as_bytes().split_at_checked(mark)?;
    let back = |most: usize| {
        let pairs = before.iter().rev().zip(value_before.iter().rev());
        pairs.take(most).take_while(|(a, b)| a == b).count()
    };
    let on = |most: usize| {
        let pairs = after.iter().zip(value_after);
        pairs.take(most).take_while(|(a, b)| a == b).count()
    };
    // First no further than it takes to know.
    let (near_back, near_on) = (back(SHORTEST), on(SHORTEST));
    if near_back + near_on < SHORTEST || !is_telling(value, mark - near_back..mark + near_on) {
        return None;
    }
    let (mut from, mut to) = (mark - back(usize::MAX), mark + on(usize::MAX));
    // Whole characters of the value are whole characters of the text.
    while !value.is_char_boundary(from) {
        from += 1;
    }
    while !value.is_char_boundary(to) {
        to -= 1;
    }
    Some(at + from - mark..at + to - mark)
}

/// Whether a part's bytes, or the first of them, tell it from a line of dashes.
fn is_telling(value: &str, part: Range<usize>) -> bool {
    let mut seen = [false; 256];
    let bytes = value.as_bytes().get(part).unwrap_or_default();
    for byte in bytes {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    seen.iter().filter(|seen| **seen).count() >= DIFFERENT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of 1,000 different places: `0000 0001 0002 …`.
    fn value() -> String {
        (0..200).map(|number| format!("{number:04} ")).collect()
    }

    /// The first part that is found.
    fn check(value: &str, text: &str, expect: Option<Range<usize>>) {
        let marks = Marks::of(std::iter::once(value));
        let within = 0..text.len();
        let found = (0..text.len()).find_map(|at| marks.find(text, at, &within, |_| value));
        assert_eq!(found.map(|found| found.range), expect, "{text}");
    }

    #[test]
    fn a_part_is_found_wherever_it_was_cut() {
        let value = value();
        let part = |range: Range<usize>| value.get(range).unwrap_or_default();
        for from in 0..100 {
            let text = format!("[{}]", part(from..from + SHORTEST));
            check(&value, &text, Some(1..1 + SHORTEST));
            check(&value, &format!("[{}]", part(from..from + SHORTEST - 1)), None);
        }
        check(&value, &format!("cut: {}", part(0..700)), Some(5..705));
        check(&value, &format!("{} and on", part(900..1000)), Some(0..100));
        check(part(0..LONG - 1), part(0..SHORTEST), None);
    }

    #[test]
    fn what_does_not_tell_is_left() {
        let line = "-".repeat(100);
        check(&line, &line, None);
        check(&format!("{line}secret"), &line, None);
        check(&"0123".repeat(50), &"0123".repeat(20), None);
    }

    #[test]
    fn a_part_is_whole_characters() {
        let value = "é".repeat(20) + "abcdefghijklmnopqrstuvwxyz" + &"é".repeat(20);
        // The first byte of `è` is that of `é`.
        check(&value, "abcdefghijklmnopqrstuvwxyzéééè", Some(0..32));
    }

    #[test]
    fn values_that_repeat_themselves_cost_no_more() {
        let value = "abc".repeat(64 * 1024);
        let began = std::time::Instant::now();
        check(&value, &value, None);
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }
}
