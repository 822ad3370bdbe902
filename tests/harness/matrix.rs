//! Tests that try the same thing at many points: all of them, or a sample that is always the same.

use std::io::Write;

/// The points to try: all of them with `DEPLOYER_TEST_ALL=1`, else every so many, from the first of them on.
pub fn sample<T: Clone>(points: &[T], first: usize, every: usize) -> Vec<T> {
    let all = std::env::var_os("DEPLOYER_TEST_ALL").is_some();
    let (first, every) = if all { (0, 1) } else { (first, every) };
    points.iter().skip(first).step_by(every).cloned().collect()
}

/// Says how much was tried, past the test harness, which shows nothing of a test that passes.
#[expect(clippy::explicit_write, reason = "the test harness keeps what is printed the usual way")]
pub fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}
