//! What a plugin prints: each line goes into the step's log, and the last ones are kept for its error.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::capability::{Level, LogQueue, Source};

/// How many of the last lines an error shows.
const LAST: usize = 20;
/// A longer line is cut in pieces.
const LONGEST: usize = 4096;

/// Both outputs of one call. Cheap to clone.
#[derive(Clone)]
pub(super) struct Captured {
    log: LogQueue,
    stdout: Arc<Mutex<Lines>>,
    stderr: Arc<Mutex<Lines>>,
}

/// One of the two, as the plugin writes to it.
#[derive(Clone)]
pub(super) struct Writer {
    log: LogQueue,
    level: Level,
    source: Source,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Default)]
struct Lines {
    unfinished: Vec<u8>,
    last: VecDeque<String>,
}

impl Captured {
    pub fn new(log: LogQueue) -> Self {
        Self { log, stdout: Arc::default(), stderr: Arc::default() }
    }

    pub fn stdout(&self) -> Writer {
        let (log, lines) = (self.log.clone(), self.stdout.clone());
        Writer { log, level: Level::Info, source: Source::Stdout, lines }
    }

    pub fn stderr(&self) -> Writer {
        let (log, lines) = (self.log.clone(), self.stderr.clone());
        Writer { log, level: Level::Warn, source: Source::Stderr, lines }
    }

    /// Brings out lines without an end.
    pub fn finish(&self) {
        for writer in [self.stdout(), self.stderr()] {
            let rest = std::mem::take(&mut lock(&writer.lines).unfinished);
            if !rest.is_empty() {
                writer.line(&rest);
            }
        }
    }

    /// The last lines of standard error, or else of standard output.
    pub fn last_lines(&self) -> String {
        let join = |lines: &Mutex<Lines>| {
            let lines = lock(lines);
            lines.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
        };
        let said = join(&self.stderr);
        if said.trim().is_empty() { join(&self.stdout) } else { said }
    }
}

impl Writer {
    fn feed(&self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = {
                let mut lines = lock(&self.lines);
                lines.unfinished.extend_from_slice(piece);
                let whole = piece.ends_with(b"\n") || lines.unfinished.len() >= LONGEST;
                whole.then(|| std::mem::take(&mut lines.unfinished))
            };
            if let Some(line) = whole {
                self.line(&line);
            }
        }
    }

    fn line(&self, bytes: &[u8]) {
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim_end_matches(['\n', '\r']);
        self.log.add(self.level, self.source, line);
        let mut lines = lock(&self.lines);
        if lines.last.len() == LAST {
            lines.last.pop_front();
        }
        lines.last.push_back(line.to_owned());
    }
}

fn lock(lines: &Mutex<Lines>) -> std::sync::MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

impl IsTerminal for Writer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Writer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if self.log.room() == 0 {
            self.log.wait_for_room().await;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.feed(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    /// As many bytes as there is room for lines: then even empty lines find a place.
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.log.room())
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.feed(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_the_last_are_kept() {
        let captured = Captured::new(LogQueue::nowhere());
        let stderr = captured.stderr();
        for number in 0..30 {
            stderr.feed(format!("line {number}").as_bytes());
            stderr.feed(b"\r\n");
        }
        stderr.feed(b"without an end");
        captured.finish();
        let last = captured.last_lines();
        assert_eq!(last.lines().count(), LAST);
        assert!(last.starts_with("line 11\n") && last.ends_with("line 29\nwithout an end"), "{last}");
    }

    #[test]
    fn standard_output_serves_where_standard_error_is_silent() {
        let captured = Captured::new(LogQueue::nowhere());
        captured.stdout().feed(b"only here\n");
        assert_eq!(captured.last_lines(), "only here");
        captured.stderr().feed(b"and here\n");
        assert_eq!(captured.last_lines(), "and here");
    }
}
