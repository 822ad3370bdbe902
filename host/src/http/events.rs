//! A job's events as a stream (SSE), from any of them on. The journal keeps them, so a client that is slow or
//! gone holds nothing: its stream reads the next ones when it takes them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::Value;
use tokio::sync::watch;

use super::extract::{Parameters, Segment};
use super::problem::Problem;
use super::streams::OpenStream;
use super::{App, query};
use crate::job::FieldProblem;
use crate::journal::time_text;
use crate::model::{Actor, Event};

const PAGE: u32 = 256;

/// The stream ends after the last event of a job that is over. Asked again from there on, the answer is 204,
/// at which a browser's `EventSource` stops asking. With `?follow=false` it ends after what is there now.
pub async fn stream(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Segment(id): Segment,
    Parameters(query): Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let after = query::resume_after(header, &query)?;
    let follow = query::follow(&query)?;
    // Before the first look, so that nothing is missed between the two.
    let changes = app.deployments.watch();
    let job = app.deployments.job(&id).await?.ok_or_else(|| Problem::no_such_job(&id))?;
    let over = job.record.state.is_over();
    if after > 0 && !over && app.deployments.events(&id, after - 1, 1).await?.is_empty() {
        return Err(Problem::invalid(vec![FieldProblem::new(
            "Last-Event-ID",
            format!("the job has no event {after} yet: leave this header out to read from the first event"),
        )]));
    }
    let place = app.streams.open(caller(&app, &actor))?;
    let mut tail = Tail { app, id, after, changes, page: VecDeque::new(), over, follow, _open: place };
    tail.read().await?;
    if tail.over && tail.page.is_empty() && after > 0 {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let lines = stream::unfold(tail, |mut tail| async move {
        let event = tail.next().await?;
        Some((Ok::<_, Infallible>(line(event)), tail))
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(lines).keep_alive(keep_alive).into_response())
}

struct Tail {
    app: Arc<App>,
    id: String,
    after: u64,
    changes: watch::Receiver<u64>,
    page: VecDeque<Event>,
    /// The job will have no more events.
    over: bool,
    /// Wait for events that are not there yet.
    follow: bool,
    _open: OpenStream,
}

/// Whose streams are counted together: those of a token, or of an address.
fn caller(app: &App, actor: &Actor) -> String {
    match (&app.tokens, actor.from.parse::<SocketAddr>()) {
        (None, Ok(from)) => from.ip().to_canonical().to_string(),
        (Some(_), _) | (None, Err(_)) => actor.name.clone(),
    }
}

impl Tail {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.page.pop_front() {
                return Some(event);
            }
            self.changes.mark_unchanged();
            if let Err(problem) = self.read().await {
                // The client asks again from its last event on.
                tracing::warn!(job = self.id, error = problem.detail, "a stream of events ended early");
                return None;
            }
            if !self.page.is_empty() {
                continue;
            }
            if self.over || !self.follow {
                return None;
            }
            let stopping = self.app.stopping.clone();
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = stopping.cancelled() => return None,
            }
        }
    }

    async fn read(&mut self) -> Result<(), Problem> {
        let events = self.app.deployments.events(&self.id, self.after, PAGE).await?;
        if let Some(last) = events.last() {
            self.after = last.sequence;
        }
        self.over |= events.iter().any(|event| event.kind.ends_the_job(&event.data));
        self.page = events.into();
        Ok(())
    }
}

fn line(event: Event) -> Line {
    let (id, kind, data) = parts(event);
    Line::default().id(id).event(kind).data(data)
}

/// The event's number, its kind, and its data with the time in it.
fn parts(event: Event) -> (String, &'static str, String) {
    let at = Value::String(time_text(event.at));
    let data = match event.data {
        Value::Object(mut object) => {
            object.insert("at".to_owned(), at);
            Value::Object(object)
        }
        other => serde_json::json!({ "at": at, "value": other }),
    };
    (event.sequence.to_string(), event.kind.name(), data.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;
    use crate::model::EventKind;

    fn event(kind: EventKind, data: Value) -> Event {
        Event { sequence: 7, at: "2026-01-01T00:00:00.5Z".parse().unwrap(), kind, data }
    }

    #[test]
    fn a_line_has_the_number_the_kind_and_the_time() {
        let (id, kind, data) = parts(event(EventKind::Log, json!({ "message": "two\nlines" })));
        assert_eq!((id.as_str(), kind), ("7", "log"));
        // A line break in the data would end the field.
        assert!(!data.contains('\n'));
        let data: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(data, json!({ "message": "two\nlines", "at": "2026-01-01T00:00:00.500Z" }));
    }
}
