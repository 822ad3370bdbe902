//! Numbers as people read them.

/// `512 bytes`, `34 KB`, `1.2 MB`: powers of 1,000.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if count < 1000 {
        return counted(count, "byte");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let unit = UNITS.get(unit).unwrap_or(&"TB");
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// `5,000`.
pub fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `20 files`: a noun whose plural has an `s`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", number(count))
}

/// The first `limit` bytes, cut where a character ends.
pub fn beginning(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_digits_and_a_unit() {
        for (count, expected) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1000, "1.0 KB"),
            (34_400, "34 KB"),
            (999_600, "1.0 MB"),
            (1_234_567, "1.2 MB"),
            (5_000_000_000_000_000, "5000 TB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        for (count, expected) in [(7, "7"), (999, "999"), (5000, "5,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(count), expected);
        }
    }

    #[test]
    fn a_beginning_ends_with_a_whole_character() {
        assert_eq!(beginning("aé", 2), "a");
        assert_eq!(beginning("aé", 9), "aé");
    }
}
