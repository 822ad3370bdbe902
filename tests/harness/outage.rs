//! A caller who asks all the time, and notes for how long there was no good answer.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long after its end a good answer may come. Its time counts all the same.
const GRACE: Duration = Duration::from_secs(3);

/// Asks every 10 ms, from outside, until its end.
pub struct Outage {
    stop: oneshot::Sender<()>,
    asking: JoinHandle<f64>,
}

impl Outage {
    pub fn begin(url: String) -> Self {
        Self::with_limit(url, Duration::from_secs(1))
    }

    /// For a service that should not notice anything: a machine that is busy is no outage.
    pub fn patient(url: String) -> Self {
        Self::with_limit(url, Duration::from_secs(20))
    }

    /// A question without an answer for this long has none.
    fn with_limit(url: String, limit: Duration) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let asking = tokio::spawn(async move {
            let client = crate::program::client();
            let mut last_good = Instant::now();
            let mut longest = Duration::ZERO;
            let mut failed = false;
            let mut until = None;
            // A question that was asked before the service was back may still be on its way when the job ends.
            while until.is_none_or(|until| failed && Instant::now() < until) {
                if stopped.try_recv().is_ok() {
                    until = Some(Instant::now() + GRACE);
                }
                let answer = client.get(&url).timeout(limit).send().await;
                let now = Instant::now();
                if answer.is_ok_and(|answer| answer.status().as_u16() < 500) {
                    if std::mem::take(&mut failed) {
                        longest = longest.max(now - last_good);
                    }
                    last_good = now;
                } else {
                    failed = true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(!failed, "{url} has had no good answer for {:?}", last_good.elapsed());
            longest.as_secs_f64()
        });
        Outage { stop, asking }
    }

    /// The longest time without a good answer, in seconds.
    pub async fn end(self) -> f64 {
        self.stop.send(()).unwrap();
        self.asking.await.unwrap()
    }
}
