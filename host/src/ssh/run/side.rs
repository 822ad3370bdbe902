//! One stream of a command's output: the wrapper's own words first, then lines for whoever follows, and the end
//! of it to keep.

use crate::model::RemoteProcess;
use crate::ssh::lines::{Lines, Marker, Preamble, Tail};
use crate::ssh::{Stream, Watch};

/// One stream of a command's output.
pub(super) struct Side {
    stream: Stream,
    pub(super) preamble: Preamble,
    lines: Lines,
    pub(super) tail: Tail,
}

impl Side {
    pub(super) fn new(stream: Stream, nonce: String) -> Self {
        Self { stream, preamble: Preamble::new(nonce), lines: Lines::default(), tail: Tail::default() }
    }

    /// Takes a packet. Whichever stream is first to tell the process's name, the watcher hears the
    /// name before any line. What the wrapper says instead of a name is given back.
    pub(super) fn feed(
        &mut self,
        data: &[u8],
        process: &mut Option<RemoteProcess>,
        watch: &mut dyn Watch,
    ) -> Option<Marker> {
        if self.preamble.is_over() {
            self.keep(data, watch);
            return None;
        }
        match self.preamble.feed(data)? {
            (Marker::Started(named), after) => {
                if process.is_none() {
                    watch.started(&named);
                    *process = Some(named);
                }
                self.keep(&after, watch);
                None
            }
            (other, _) => Some(other),
        }
    }

    fn keep(&mut self, data: &[u8], watch: &mut dyn Watch) {
        self.tail.feed(data);
        self.lines.feed(data, |line| watch.line(self.stream, line));
    }

    pub(super) fn end(&mut self, watch: &mut dyn Watch) {
        self.lines.end(|line| watch.line(self.stream, line));
    }
}
