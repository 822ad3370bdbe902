//! Takes the environment's values out of what is recorded and shown. A second line of defence: values never
//! pass through here on purpose, but a service may print its own environment when it starts. What a plugin works
//! on is not changed: only what people read.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::value::Secret;
use search::{Pattern, SHORTEST, Search, Span};
use view::View;

mod parts;
mod search;
#[cfg(test)]
mod tests;
mod view;

/// One line of a value that has several.
const SHORTEST_LINE: usize = 8;
/// How often a value may have been escaped: an answer in JSON may stand in another one, and that in a log.
const LAYERS: usize = 3;
/// What is larger is searched off the runtime's threads.
const LARGE: usize = 16 << 10;
/// Stands for a text that could not be searched.
const UNSEARCHED: &str = "[not shown: the environment is too large to be searched for in this text]";

/// Values that say nothing secret and that commands print all the time; a record that says `[env STATE]` where a
/// container is `running` helps nobody.
const EVERYDAY: [&str; 24] = [
    "active",
    "container",
    "debug",
    "default",
    "development",
    "disabled",
    "docker",
    "enabled",
    "error",
    "exited",
    "failed",
    "healthy",
    "inactive",
    "localhost",
    "production",
    "public",
    "python",
    "release",
    "running",
    "staging",
    "systemd",
    "testing",
    "unhealthy",
    "warning",
];

/// Replaces each value by what it is called: `[env NAME]`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor(Arc<HiddenValues>);

/// A value that must not be shown, and what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    label: String,
    value: Secret,
}

#[derive(Default)]
struct HiddenValues {
    hidden: Vec<Hidden>,
    /// None: nothing is hidden.
    search: Option<Result<Search, Unsearchable>>,
}

/// No automaton can be made of so many values.
struct Unsearchable;

impl Hidden {
    /// A variable's value.
    pub fn variable(name: &str, value: Secret) -> Self {
        Self { label: format!("[env {name}]"), value }
    }

    /// What the registry was given, with what is shown in its place.
    pub fn registry(label: &str, value: Secret) -> Self {
        Self { label: label.into(), value }
    }
}

impl Redactor {
    /// `spared` are texts that stay whole, even where a variable has them, or a part of them, for a value: the
    /// service's name, the release's paths.
    pub fn new(hidden: Vec<Hidden>, spared: Vec<String>) -> Self {
        let patterns = hidden.iter().flat_map(|hidden| patterns(&hidden.label, hidden.value.expose()));
        let patterns: Vec<Pattern> =
            patterns.filter(|pattern| !spared.iter().any(|text| text.contains(&pattern.text))).collect();
        let search = (!patterns.is_empty()).then(|| {
            Search::new(patterns, spared).map_err(|error| {
                tracing::error!(%error, "the environment cannot be searched for: no text is shown");
                Unsearchable
            })
        });
        Self(Arc::new(HiddenValues { hidden, search }))
    }

    /// As `new`, and off the runtime's threads where there is much.
    pub async fn make(hidden: Vec<Hidden>, spared: Vec<String>) -> Self {
        let bytes = hidden.iter().map(|hidden| hidden.value.expose().len()).sum();
        apart(bytes, move || Self::new(hidden, spared)).await
    }

    /// What it hides.
    pub fn hidden(&self) -> &[Hidden] {
        &self.0.hidden
    }

    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.0.redact(text, false)
    }

    /// A text that was cut off by who had it: at its end, and before an ellipsis, it may have the beginning of a
    /// value.
    pub fn redact_cut<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.0.redact(text, true)
    }

    pub fn redact_string(&self, text: String) -> String {
        match self.redact(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(redacted) => redacted,
        }
    }

    /// All texts in a value. The names of its fields are the host's own.
    pub fn redact_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.redact_string(text)),
            Value::Array(items) => items.into_iter().map(|item| self.redact_value(item)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(name, field)| (name, self.redact_value(field))).collect()
            }
            other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
        }
    }

    /// Does a work with this redactor on a text of so many bytes: off the runtime's threads where that is much.
    pub async fn apart<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Redactor) -> T + Send + 'static,
    ) -> T {
        let redactor = self.clone();
        // Where nothing is hidden, nothing takes its time.
        let bytes = if self.0.search.is_some() { bytes } else { 0 };
        apart(bytes, move || work(&redactor)).await
    }
}

async fn apart<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes < LARGE {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}

impl HiddenValues {
    fn redact<'a>(&self, text: &'a str, cut: bool) -> Cow<'a, str> {
        let search = match &self.search {
            None => return Cow::Borrowed(text),
            Some(Ok(search)) => search,
            Some(Err(Unsearchable)) => return Cow::Borrowed(UNSEARCHED),
        };
        let mut redacted = Cow::Borrowed(text);
        for layers in 0..=LAYERS {
            let Some(view) = View::below(&redacted, layers) else { break };
            let may_be_url = view.text().contains('%');
            if let Some(without) = without(&redacted, &view, search, cut) {
                redacted = Cow::Owned(without);
            }
            if !may_be_url {
                continue;
            }
            // Looked at once more, because the view was of the text before.
            let url = View::below(&redacted, layers).and_then(|view| view.out_of_url());
            if let Some(without) = url.and_then(|view| without(&redacted, &view, search, cut)) {
                redacted = Cow::Owned(without);
            }
        }
        redacted
    }
}

/// The text without the values that a view of it shows; none when it shows none.
fn without(text: &str, view: &View<'_>, search: &Search, cut: bool) -> Option<String> {
    let spans = search.spans(view.text(), cut);
    (!spans.is_empty()).then(|| replaced(text, view, &spans, search))
}

fn replaced(text: &str, view: &View<'_>, spans: &[Span], search: &Search) -> String {
    let mut redacted = String::new();
    let mut kept = 0;
    for span in spans {
        let place = view.origins(span.range.clone());
        redacted.push_str(text.get(kept..place.start).unwrap_or_default());
        redacted.push_str(search.label(span));
        kept = place.end;
    }
    redacted.push_str(text.get(kept..).unwrap_or_default());
    redacted
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("hidden", &self.0.hidden.len()).finish()
    }
}

/// What of a value is looked for. White space around it is often not printed.
fn patterns(label: &str, value: &str) -> Vec<Pattern> {
    let value = value.trim();
    if value.len() < SHORTEST || is_everyday(value) {
        return vec![];
    }
    let label: Arc<str> = label.into();
    // A longer line is a part of a long value.
    let is_short = |line: &&str| value.len() < parts::LONG || line.len() < parts::SHORTEST;
    let lines = value.split(['\n', '\r']).map(str::trim).filter(is_short);
    let telling = lines.filter(|line| line.len() >= SHORTEST_LINE && !is_everyday(line));
    let texts = std::iter::once(value).chain(telling);
    texts.map(|text| Pattern { text: text.to_owned(), label: label.clone() }).collect()
}

fn is_everyday(value: &str) -> bool {
    let word = value.to_ascii_lowercase();
    EVERYDAY.contains(&word.as_str()) || value.parse::<std::net::IpAddr>().is_ok()
}
