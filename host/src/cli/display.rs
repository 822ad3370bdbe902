//! A job's events on a screen, in a file or as JSON: what is printed as they come.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Url;
use serde_json::json;

use super::output::line;
use super::show::{self, Seen};

/// How many log lines a failed job is shown with.
const LAST_WORDS: usize = 20;

pub struct Display {
    form: Form,
    verbose: bool,
    logs: VecDeque<String>,
    /// The server is away, and that was said.
    is_waiting: bool,
}

enum Form {
    Json,
    /// One line for each phase, and nothing that is taken back.
    Plain,
    /// A line that changes, below those that stay.
    Terminal {
        bar: ProgressBar,
        colours: bool,
        phase: String,
    },
}

impl Display {
    pub fn new(json: bool, is_terminal: bool, verbose: bool) -> Self {
        let form = if json {
            Form::Json
        } else if is_terminal {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            bar.set_style(spinner());
            bar.set_message("waiting for other jobs");
            bar.enable_steady_tick(Duration::from_millis(100));
            let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::io::stdout().is_terminal();
            Form::Terminal { bar, colours, phase: String::new() }
        } else {
            Form::Plain
        };
        Display { form, verbose, logs: VecDeque::new(), is_waiting: false }
    }

    pub fn see(&mut self, seen: &Seen) {
        self.is_waiting = false;
        let log = seen.log();
        if let Some(text) = &log {
            if self.logs.len() == LAST_WORDS {
                self.logs.pop_front();
            }
            self.logs.push_back(text.clone());
        }
        match &mut self.form {
            Form::Json => {
                line(&json!({ "event": seen.kind, "id": seen.id, "data": seen.data }).to_string());
            }
            Form::Plain => {
                if let Some(ended) = seen.ended() {
                    line(&ended.line());
                } else if let Some(text) = log.filter(|_| self.verbose) {
                    line(&text);
                }
            }
            Form::Terminal { bar, colours, phase } => {
                on_terminal(bar, *colours, phase, seen, log, self.verbose);
            }
        }
    }

    /// The server has been away for so long.
    pub fn waiting(&mut self, server: &Url, waited: Duration) {
        let text = format!("waiting for the deployer at {server} to come back");
        match &self.form {
            Form::Json => {}
            Form::Plain if self.is_waiting => {}
            Form::Plain => line(&text),
            Form::Terminal { bar, .. } => bar.set_message(format!("{text} ({} s)", waited.as_secs())),
        }
        self.is_waiting = true;
    }

    /// Takes away what does not stay.
    pub fn clear(&self) {
        match &self.form {
            Form::Json | Form::Plain => {}
            Form::Terminal { bar, .. } => bar.finish_and_clear(),
        }
    }

    /// The last lines of the log, unless all of them were shown.
    pub fn last_words(&self) -> Vec<String> {
        if self.verbose { Vec::new() } else { self.logs.iter().cloned().collect() }
    }
}

fn on_terminal(
    bar: &ProgressBar,
    colours: bool,
    phase: &mut String,
    seen: &Seen,
    log: Option<String>,
    verbose: bool,
) {
    if let Some(ended) = seen.ended() {
        bar.println(ended.row(colours));
        bar.set_style(spinner());
        bar.set_message("");
    } else if let Some(name) = seen.begun() {
        name.clone_into(phase);
        bar.set_style(spinner());
        bar.set_message(phase.clone());
    } else if let Some(amount) = seen.amount() {
        bar.set_style(transfer());
        bar.set_length(amount.bytes_total.max(1));
        bar.set_position(amount.bytes_done);
        bar.set_message(format!("{phase}  {}", show::amount(amount)));
    } else if let Some(text) = log {
        if verbose {
            bar.println(text);
        } else {
            bar.set_message(text);
        }
    }
}

fn spinner() -> ProgressStyle {
    style("{spinner} {wide_msg}")
}

fn transfer() -> ProgressStyle {
    style("{spinner} [{bar:24}] {wide_msg}")
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are right: the fallback is for the type only, and a test draws them.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::EventKind;

    #[test]
    fn the_templates_are_right() {
        for template in ["{spinner} {wide_msg}", "{spinner} [{bar:24}] {wide_msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn the_last_lines_of_the_log_are_kept() {
        let mut display = Display::new(false, false, false);
        for number in 1..=30 {
            let data = json!({ "line": format!("line {number}") });
            display.see(&Seen { id: number, kind: EventKind::Log, data });
        }
        let words = display.last_words();
        assert_eq!(words.len(), LAST_WORDS);
        assert_eq!(words.last().map(String::as_str), Some("line 30"));
    }
}
