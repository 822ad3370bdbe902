//! Plugins that do not end by themselves, or end badly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::fixture::{Remembered, call, context, deployment, granted};
use crate::capability::{Limits, StepContext};
use crate::contract::Fault;
use crate::model::Grant;
use crate::plugin::{StepError, StepFailure};

async fn failure(context: StepContext, deed: &str, with: &str) -> StepError {
    call(context).await.validate(&deployment(deed, with)).await.unwrap_err()
}

fn in_time(context: StepContext, milliseconds: u64) -> StepContext {
    let limits = Limits { timeout: Duration::from_millis(milliseconds), ..context.limits };
    StepContext { limits, ..context }
}

#[tokio::test]
async fn an_endless_loop_ends_and_lets_others_run_meanwhile() {
    let recorder = Remembered::new();
    let context = in_time(context(&recorder).await, 500);
    // One thread for both: the loop has to give way.
    let turns = Arc::new(AtomicU32::new(0));
    let counting = {
        let turns = turns.clone();
        tokio::spawn(async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let begun = Instant::now();
    let error = failure(context, "loop", "").await;
    counting.abort();
    assert!(matches!(error.failure, StepFailure::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("within 0.5 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(turns.load(Ordering::Relaxed) > 3);
}

#[tokio::test]
async fn a_sleep_ends() {
    let recorder = Remembered::new();
    let error = failure(in_time(context(&recorder).await, 200), "sleep", "").await;
    assert!(matches!(error.failure, StepFailure::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_panic_shows_its_words() {
    let recorder = Remembered::new();
    let error = failure(context(&recorder).await, "panic", "the soup is cold").await;
    let StepFailure::Trapped { last_lines, .. } = &error.failure else { panic!("{error}") };
    assert!(last_lines.contains("the soup is cold"), "{last_lines}");
    let told = error.into_error();
    assert_eq!(told.fault, Fault::Plugin);
    assert!(told.seen.contains("the soup is cold"), "{}", told.seen);
    assert!(recorder.lines().iter().any(|line| line.starts_with("stderr: ") && line.contains("soup")));
}

#[tokio::test]
async fn an_exit_shows_its_status() {
    let recorder = Remembered::new();
    let error = failure(context(&recorder).await, "exit", "").await;
    assert!(
        matches!(&error.failure, StepFailure::Trapped { message, .. } if message.contains("exit status")),
        "{error}"
    );
}

#[tokio::test]
async fn memory_has_a_limit() {
    let recorder = Remembered::new();
    let error = failure(context(&recorder).await, "eat", "").await;
    assert!(matches!(error.failure, StepFailure::OutOfMemory { limit_bytes: 0x400_0000, .. }), "{error}");
    assert!(error.to_string().contains("64 MiB"), "{error}");

    // Not even enough to begin with.
    let limits = Limits { memory_bytes: 1 << 16, timeout: Duration::from_secs(10) };
    let context = StepContext { limits, ..context(&recorder).await };
    let error = failure(context, "nothing", "").await;
    assert!(matches!(error.failure, StepFailure::OutOfMemory { .. }), "{error}");
}

#[tokio::test]
async fn cancelling_ends_a_plugin_that_asks_and_one_that_does_not() {
    for (deed, at_most) in [("wait_for_cancel", 1500), ("sleep", 4000), ("loop", 4000)] {
        let recorder = Remembered::new();
        let context = context(&recorder).await;
        let cancel = context.cancel.clone();
        let cancelling = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancel.cancel();
        });
        let begun = Instant::now();
        let error = failure(context, deed, "").await;
        cancelling.await.unwrap();
        assert!(error.is_cancelled(), "{deed}: {error}");
        assert!(begun.elapsed() < Duration::from_millis(at_most), "{deed}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_step_of_a_cancelled_job_calls_nothing() {
    let recorder = Remembered::new();
    let context = granted(context(&recorder).await, &[Grant::TargetRead]);
    context.cancel.cancel();
    let error = failure(context, "run", "true").await;
    assert!(error.is_cancelled(), "{error}");
    assert!(recorder.calls().is_empty());
}

#[tokio::test]
async fn a_host_call_that_waits_ends_with_the_steps_time() {
    // Somebody who accepts and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let recorder = Remembered::new();
    let context = granted(in_time(context(&recorder).await, 300), &[Grant::HttpNetwork]);
    let begun = Instant::now();
    let error = failure(context, "http", &format!("network {port}")).await;
    assert!(matches!(error.failure, StepFailure::TimedOutIn { call: "http.send", .. }), "{error}");
    assert_eq!(error.into_error().fault, Fault::Target);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let calls = recorder.calls();
    let (_, _, ended) = calls.first().unwrap();
    assert_eq!(ended.as_ref().unwrap().error.as_deref(), Some("the step has reached its time limit"));
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let recorder = Remembered::failing("call_started");
    let context_ = granted(context(&recorder).await, &[Grant::HttpNetwork]);
    let error = failure(context_, "http", &format!("network {port}")).await;
    assert!(error.is_unrecorded(), "{error}");
    assert_eq!(error.into_error().fault, Fault::Host);
    let nobody_came = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(nobody_came.is_err());

    for at in ["log", "progress"] {
        let recorder = Remembered::failing(at);
        let deed = if at == "log" { "say" } else { "progress" };
        let error = failure(context(&recorder).await, deed, "").await;
        assert!(error.is_unrecorded(), "{at}: {error}");
    }
}
