//! Parts of long values: what a tool cut off, or broke into lines, is still a secret.
//!
//! Only parts that are long and telling count. They are found by marks: every so many bytes of a value, where the
//! text has the same eight bytes.

use std::ops::Range;

/// Shorter values are found whole or not at all.
pub const LONG: usize = 64;
/// The shortest part, in bytes.
pub const SHORTEST: usize = 32;
/// The bytes at a mark.
pub const SEED: usize = 8;
/// How many marks with the same seed are looked at.
pub const ALIKE: usize = 8;

/// From one mark to the next: every part of the shortest length has a whole seed in it.
const STEP: usize = SHORTEST - SEED;
/// A part with fewer different bytes is a line of dashes, or a row of zeros.
const DIFFERENT: usize = 6;

/// A place in a long value by which its parts are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which of the values.
    pub value: usize,
    pub at: usize,
}

/// The bytes at each mark of a value, if it is long, and where that is.
pub fn seeds(value: &str) -> impl Iterator<Item = ([u8; SEED], usize)> {
    let length = if value.len() < LONG { 0 } else { value.len() };
    let seed = |at: usize| Some((*value.as_bytes().get(at..)?.first_chunk()?, at));
    (0..length).step_by(STEP).map_while(seed)
}

/// What the text around `at` has in common with the value around `mark`, if that is a part that counts. Before `at`
/// no more than `most_before` bytes are looked at.
pub fn around(text: &str, at: usize, value: &str, mark: usize, most_before: usize) -> Option<Range<usize>> {
    let (before, after) = text.as_bytes().split_at_checked(at)?;
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
    let (mut from, mut to) = (mark - back(most_before), mark + on(usize::MAX));
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
        let seeds: Vec<_> = seeds(value).collect();
        let here = |at: usize| seeds.iter().filter(move |(seed, _)| text.as_bytes()[at..].starts_with(seed));
        let mut places = (0..text.len()).flat_map(|at| here(at).map(move |(_, mark)| (at, *mark)));
        let found = places.find_map(|(at, mark)| around(text, at, value, mark, usize::MAX));
        assert_eq!(found, expect, "{text}");
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
}
