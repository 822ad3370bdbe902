//! How long callers had no answer while a job replaced what runs: the service is asked all the time, from where
//! this deployer is, and the gaps between good answers are measured.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::capability::HttpClient;
use crate::model::Plan;
use crate::ssh::Ssh;

use crate::model::Phase;

/// Between an answer and the next question.
const INTERVAL: Duration = Duration::from_millis(10);
/// A question without an answer for this long is a gap.
const LIMIT: Duration = Duration::from_secs(1);
/// What is asked for where no verify step says.
const PATH: &str = "/health";

/// Asks until it is dropped.
pub(super) struct Watch {
    ledger: Arc<Mutex<Ledger>>,
    asked: String,
    _asking: JoinSet<()>,
}

/// What is asked, and how.
pub(super) struct Question {
    pub http: HttpClient,
    pub ssh: Ssh,
    /// As callers reach it, without a path.
    pub url: String,
    pub port: u16,
    pub path: String,
}

/// What was seen so far. Times are since the first question.
#[derive(Debug, Default)]
struct Ledger {
    questions: u64,
    last_good: Option<Duration>,
    /// The last good answer before the gap that lasts.
    gap_from: Option<Duration>,
    gaps: Vec<Duration>,
    now: Duration,
}

impl Watch {
    /// Begins to ask, if the service answers now: through the network, or else through the SSH connection.
    pub async fn begin(question: Question) -> Option<Self> {
        let outside = format!("{}{}", question.url, question.path);
        let inside = format!("http://127.0.0.1:{}{}", question.port, question.path);
        let (through, asked) = if good(question.http.status(None, &outside, LIMIT).await) {
            (None, outside)
        } else if good(question.http.status(Some(&question.ssh), &inside, LIMIT).await) {
            (Some(question.ssh.clone()), inside)
        } else {
            return None;
        };
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let mut asking = JoinSet::new();
        let (kept, url, http) = (ledger.clone(), asked.clone(), question.http);
        asking.spawn(async move {
            let begun = Instant::now();
            loop {
                let answer = good(http.status(through.as_ref(), &url, LIMIT).await);
                kept.lock().unwrap_or_else(PoisonError::into_inner).take(begun.elapsed(), answer);
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Some(Watch { ledger, asked, _asking: asking })
    }

    /// Whether callers were once without a good answer.
    pub fn gap_seen(&self) -> bool {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        !ledger.gaps.is_empty() || ledger.gap_from.is_some()
    }

    /// What was seen so far, for the job's record. Seconds are measured between two good answers, so the true
    /// gap is shorter by up to two intervals.
    pub fn report(&self) -> Value {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "asked": format!("GET {}", self.asked),
            "questions": ledger.questions,
            "interval_ms": u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX),
            "gaps": ledger.gaps.len() + usize::from(ledger.gap_from.is_some()),
            "seconds": seconds(ledger.longest()),
            "seconds_in_all": seconds(ledger.in_all()),
            "lasts": ledger.gap_from.is_some(),
        })
    }
}

/// The path that the pipeline's health check asks for.
pub(super) fn path(plan: &Plan) -> String {
    let paths = plan.steps(Phase::VerifyHealth).filter_map(|step| step.settings.get("path")?.as_str());
    paths.into_iter().find(|path| path.starts_with('/')).unwrap_or(PATH).to_owned()
}

/// A service that answers badly is a service that callers do not have.
fn good(status: Option<u16>) -> bool {
    status.is_some_and(|status| status < 500)
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

impl Ledger {
    fn take(&mut self, at: Duration, good: bool) {
        self.questions += 1;
        self.now = at;
        match (good, self.gap_from) {
            (true, Some(from)) => {
                self.gaps.push(at.saturating_sub(from));
                self.gap_from = None;
            }
            (false, None) => self.gap_from = Some(self.last_good.unwrap_or_default()),
            (true, None) | (false, Some(_)) => {}
        }
        if good {
            self.last_good = Some(at);
        }
    }

    fn lasting(&self) -> Option<Duration> {
        self.gap_from.map(|from| self.now.saturating_sub(from))
    }

    fn longest(&self) -> Duration {
        self.gaps.iter().copied().chain(self.lasting()).max().unwrap_or_default()
    }

    fn in_all(&self) -> Duration {
        self.gaps.iter().copied().chain(self.lasting()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_measured_from_good_answer_to_good_answer() {
        let check = |answers: &[(u64, bool)], longest: u64, in_all: u64, lasts: bool| {
            let mut ledger = Ledger::default();
            for (at, good) in answers {
                ledger.take(Duration::from_millis(*at), *good);
            }
            let milliseconds = Duration::from_millis;
            assert_eq!(ledger.longest(), milliseconds(longest), "{answers:?}");
            assert_eq!(ledger.in_all(), milliseconds(in_all), "{answers:?}");
            assert_eq!(ledger.gap_from.is_some(), lasts, "{answers:?}");
        };
        check(&[], 0, 0, false);
        check(&[(0, true), (10, true), (20, true)], 0, 0, false);
        check(&[(0, true), (10, false), (20, false), (30, true)], 30, 30, false);
        check(&[(0, true), (10, false), (20, true), (30, true), (40, false), (90, true)], 60, 80, false);
        check(&[(5, true), (10, false), (50, false)], 45, 45, true);
        check(&[(5, false), (10, true)], 10, 10, false);
    }
}
