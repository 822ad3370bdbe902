//! A command's output as it arrives in packets: the wrapper's first line, lines for the watcher,
//! and the last part to keep. Pure: no connection is known here.

use std::collections::VecDeque;

use crate::model::RemoteProcess;

/// How much of each stream is kept.
const KEPT: usize = 1024 * 1024;
/// Where a line for the watcher is cut.
const LONGEST: usize = 8 * 1024;
/// How much a login shell may print before the wrapper speaks.
const NOISE: usize = 64 * 1024;

/// What the wrapper says before the command takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Marker {
    Started(RemoteProcess),
    NoGroup,
    NoDirectory,
    NoEnvironment,
    /// The lease that it was to run under is not there any more.
    Fenced,
}

/// Looks for the wrapper's line at the start of a stream.
#[derive(Debug, Default)]
pub(super) struct Preamble {
    nonce: String,
    before: Vec<u8>,
    over: bool,
}

impl Preamble {
    pub(super) fn new(nonce: String) -> Self {
        Self { nonce, ..Self::default() }
    }

    /// Whether the line was found, so that all that follows is the command's.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Takes a packet; once the line is there, gives it and the bytes that follow it.
    pub(super) fn feed(&mut self, data: &[u8]) -> Option<(Marker, Vec<u8>)> {
        self.before.extend_from_slice(data);
        let mut from = 0;
        // Login files may print before the wrapper does, even without a newline at their end.
        while let Some(length) = self.before.iter().skip(from).position(|byte| *byte == b'\n') {
            let line = self.before.get(from..from + length).unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            if let Some((_, words)) = line.split_once(&self.nonce)
                && let Some(marker) = parse(words)
            {
                let rest = self.before.split_off(from + length + 1);
                self.over = true;
                return Some((marker, rest));
            }
            from += length + 1;
        }
        if self.before.len() > NOISE {
            self.before.drain(..from);
            // A line that long is not the wrapper's.
            let over = self.before.len().saturating_sub(NOISE);
            self.before.drain(..over);
        }
        None
    }

    /// What came before the line or instead of it.
    pub(super) fn noise(&self) -> String {
        String::from_utf8_lossy(&self.before).into_owned()
    }
}

fn parse(words: &str) -> Option<Marker> {
    let mut words = words.split_ascii_whitespace();
    match words.next()? {
        "started" => Some(Marker::Started(RemoteProcess {
            group: words.next()?.parse().ok().filter(|group| *group > 1)?,
            started: words.next()?.to_owned(),
        })),
        "no-group" => Some(Marker::NoGroup),
        "no-directory" => Some(Marker::NoDirectory),
        "no-environment" => Some(Marker::NoEnvironment),
        "fenced" => Some(Marker::Fenced),
        _ => None,
    }
}

/// Cuts a stream into lines across packets.
#[derive(Debug, Default)]
pub(super) struct Lines {
    part: Vec<u8>,
    /// Bytes of the current line that are past the longest.
    cut: usize,
    /// The last byte was a carriage return, so a newline now belongs to it.
    returned: bool,
}

impl Lines {
    pub(super) fn feed(&mut self, data: &[u8], mut emit: impl FnMut(&str)) {
        for &byte in data {
            match byte {
                b'\n' if self.returned => self.returned = false,
                b'\n' => self.finish(&mut emit, true),
                b'\r' => {
                    // A progress bar redraws itself by returns alone; an empty redraw says nothing.
                    self.finish(&mut emit, false);
                    self.returned = true;
                }
                _ => {
                    self.returned = false;
                    if self.part.len() < LONGEST {
                        self.part.push(byte);
                    } else {
                        self.cut += 1;
                    }
                }
            }
        }
    }

    /// The stream ended; a last line without an end is a line too.
    pub(super) fn end(&mut self, mut emit: impl FnMut(&str)) {
        self.finish(&mut emit, false);
    }

    fn finish(&mut self, emit: &mut impl FnMut(&str), even_empty: bool) {
        if !self.part.is_empty() || even_empty {
            let text = String::from_utf8_lossy(&self.part);
            match self.cut {
                0 => emit(&text),
                cut => emit(&format!("{text}… [{cut} bytes left out]")),
            }
        }
        self.part.clear();
        self.cut = 0;
    }
}

/// Keeps the end of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    left_out: u64,
}

impl Tail {
    pub(super) fn feed(&mut self, data: &[u8]) {
        self.bytes.extend(data);
        let over = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..over);
        self.left_out += over as u64;
    }

    pub(super) fn into_text(self) -> String {
        let bytes: Vec<u8> = self.bytes.into();
        let text = String::from_utf8_lossy(&bytes);
        match self.left_out {
            0 => text.into_owned(),
            left_out => format!("[the first {left_out} bytes are left out]\n{text}"),
        }
    }

    /// The last lines, for a message.
    pub(super) fn last_lines(&self, count: usize) -> String {
        let from = self.bytes.len().saturating_sub(4096);
        let bytes: Vec<u8> = self.bytes.iter().skip(from).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let from = lines.len().saturating_sub(count);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// The lines of a stream that arrives in these packets, or byte by byte.
    fn check(packets: &[&str], expect: &[&str]) {
        let run = |packets: &[&[u8]]| {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            for packet in packets {
                lines.feed(packet, |line| got.push(line.to_owned()));
            }
            lines.end(|line| got.push(line.to_owned()));
            got
        };
        let whole: Vec<&[u8]> = packets.iter().map(|packet| packet.as_bytes()).collect();
        assert_eq!(run(&whole), expect);
        let joined = packets.concat();
        let bytes: Vec<&[u8]> = joined.as_bytes().chunks(1).collect();
        assert_eq!(run(&bytes), expect);
    }

    #[test]
    fn lines_are_cut_across_packets() {
        check(&[], &[]);
        check(&["one\ntw", "o\n"], &["one", "two"]);
        check(&["one\n\nthree"], &["one", "", "three"]);
        check(&["one\r\ntwo\r", "\nthree"], &["one", "two", "three"]);
        check(&["10%\r50%\r100%\n"], &["10%", "50%", "100%"]);
        check(&["\r\rdone\n"], &["done"]);
        check(&["größe\n"], &["größe"]);
    }

    #[test]
    fn a_long_line_is_cut_and_a_long_stream_keeps_its_end() {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        lines.feed("x".repeat(LONGEST + 7).as_bytes(), |line| got.push(line.to_owned()));
        lines.feed(b"\nnext\n", |line| got.push(line.to_owned()));
        assert!(got.first().unwrap().ends_with("x… [7 bytes left out]"));
        assert_eq!(got.get(1).unwrap(), "next");

        let mut tail = Tail::default();
        tail.feed(&vec![b'a'; KEPT]);
        tail.feed(b"end\nlast\n");
        assert_eq!(tail.last_lines(1), "last");
        let text = tail.into_text();
        assert!(text.starts_with("[the first 9 bytes are left out]\naaa"));
        assert!(text.ends_with("aend\nlast\n"));
    }

    #[test]
    fn the_wrapper_s_line_is_found_after_noise() {
        let mut preamble = Preamble::new("n0nce".into());
        assert_eq!(preamble.feed(b"Welcome!\nprompt> n0nce star"), None);
        let (marker, rest) = preamble.feed(b"ted 42 boot/7\nout").unwrap();
        let process = RemoteProcess { group: 42, started: "boot/7".into() };
        assert_eq!(marker, Marker::Started(process));
        assert_eq!(rest, b"out");

        let mut preamble = Preamble::new("n0nce".into());
        assert_eq!(preamble.feed(b"n0nce no-directory\n").unwrap().0, Marker::NoDirectory);
        let mut preamble = Preamble::new("n0nce".into());
        // Group 1 would be everything, group 0 our own.
        assert_eq!(preamble.feed(b"n0nce started 1 boot/7\n"), None);
        assert_eq!(preamble.noise(), "n0nce started 1 boot/7\n");
    }
}
