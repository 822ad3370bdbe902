//! How the target and the registry are, for those who ask. Asking often opens no more connections than asking
//! once: a connection that lives is looked at, and an answer that was no is kept, longer each time, so that
//! nobody who asks gets the deployer banned by its own target.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::health::Trouble;
use crate::capability::{HttpClient, Registry};
use crate::ssh::{Ssh, SshError};

/// How long a caller waits for a new answer where there is an old one.
const WAITED_FOR_NEW: Duration = Duration::from_secs(1);
/// For a look at whether a connection lives, which waits while one is being made.
const LOOK: Duration = Duration::from_millis(100);
const REGISTRY_LIMIT: Duration = Duration::from_secs(5);
/// How long a registry that answered is taken to be there.
const REGISTRY_KEPT: Duration = Duration::from_secs(5);

type Answer = Result<(), Trouble>;

/// What was last heard of the target and of the registry.
#[derive(Default)]
pub struct Conditions {
    ssh: Probe,
    registry: Probe,
}

/// A question that is asked once at a time, whoever wants to know, and whose answer is kept for a while.
#[derive(Clone, Default)]
struct Probe(Arc<Inner>);

#[derive(Default)]
struct Inner {
    asking: tokio::sync::Mutex<()>,
    kept: Mutex<Option<Kept>>,
}

#[derive(Clone)]
struct Kept {
    answer: Answer,
    until: Instant,
    /// How long it is kept.
    pause: Duration,
}

impl Conditions {
    pub(super) async fn ssh(&self, ssh: &Ssh) -> Answer {
        let mark = timeout(LOOK, ssh.connection_mark()).await;
        if mark.is_ok_and(|mark| mark.is_alive()) {
            self.ssh.forget();
            return Ok(());
        }
        let ssh = ssh.clone();
        let question = async move {
            match ssh.connect().await {
                // The next one looks at the connection.
                Ok(_) => (Ok(()), Pauses::NONE),
                Err(error) => {
                    let obstacle = Obstacle::of(&error);
                    let trouble = Trouble { status: obstacle.status(), detail: error.to_string() };
                    (Err(trouble), obstacle.pauses())
                }
            }
        };
        self.ssh.ask(question).await
    }

    /// None where no registry is set.
    pub(super) async fn registry(&self, http: &HttpClient, registry: Option<&Registry>) -> Option<Answer> {
        let (http, registry) = (http.clone(), registry?.clone());
        let question = async move {
            match http.reaches(&registry, REGISTRY_LIMIT).await {
                Ok(()) => (Ok(()), Pauses { first: REGISTRY_KEPT, most: REGISTRY_KEPT }),
                Err(detail) => (Err(Trouble { status: "unreachable", detail }), Obstacle::Away.pauses()),
            }
        };
        Some(self.registry.ask(question).await)
    }
}

impl Probe {
    /// The answer that is kept, or a new one.
    async fn ask(&self, question: impl Future<Output = (Answer, Pauses)> + Send + 'static) -> Answer {
        let old = self.0.kept();
        if let Some(kept) = old.as_ref().filter(|kept| Instant::now() < kept.until) {
            return kept.answer.clone();
        }
        let inner = self.0.clone();
        // In a task of its own: a caller who hangs up must not leave the question to the next one.
        let asking = tokio::spawn(async move {
            let _one_at_a_time = inner.asking.lock().await;
            if let Some(kept) = inner.kept().filter(|kept| Instant::now() < kept.until) {
                return kept.answer;
            }
            let (answer, pauses) = question.await;
            inner.keep(answer.clone(), pauses);
            answer
        });
        let defect = || Err(Trouble { status: "unreachable", detail: "check crashed; see the log".into() });
        // That something is well is not said any longer than it is known.
        match old.filter(|old| old.answer.is_err()) {
            Some(old) => match timeout(WAITED_FOR_NEW, asking).await {
                Ok(answer) => answer.unwrap_or_else(|_| defect()),
                Err(_) => old.answer,
            },
            None => asking.await.unwrap_or_else(|_| defect()),
        }
    }

    /// What is known by another way makes the kept answer void.
    fn forget(&self) {
        *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Inner {
    fn kept(&self) -> Option<Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, answer: Answer, pauses: Pauses) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.as_ref().filter(|kept| kept.answer.is_err()).map(|kept| kept.pause);
        let pause = pauses.after(before);
        *kept = Some(Kept { answer, until: Instant::now() + pause, pause });
    }
}

/// How long an answer is kept: twice as long each time that it is no again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pauses {
    first: Duration,
    most: Duration,
}

impl Pauses {
    const NONE: Pauses = Pauses { first: Duration::ZERO, most: Duration::ZERO };

    fn after(self, before: Option<Duration>) -> Duration {
        before.map_or(self.first, |before| (before * 2).clamp(self.first, self.most))
    }
}

/// What keeps the deployer off the target, as far as a stranger may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// Nothing answers there that lets itself be talked to.
    Away,
    /// What answers there is not trusted.
    HostKey,
    /// The target lets this deployer's key not in.
    Login,
    /// There is no key to show.
    NoKey,
}

impl Obstacle {
    fn of(error: &SshError) -> Self {
        if matches!(error, SshError::Key { .. }) {
            Obstacle::NoKey
        } else if matches!(error, SshError::AuthenticationRefused(_)) {
            Obstacle::Login
        } else if matches!(
            error,
            SshError::HostUnknown(_)
                | SshError::HostMismatch { .. }
                | SshError::HostRevoked { .. }
                | SshError::KnownHostsUnreadable { .. }
        ) {
            Obstacle::HostKey
        } else {
            Obstacle::Away
        }
    }

    fn status(self) -> &'static str {
        match self {
            Obstacle::Away => "unreachable",
            Obstacle::HostKey => "host key not trusted",
            Obstacle::Login => "login refused",
            Obstacle::NoKey => "no usable key",
        }
    }

    fn pauses(self) -> Pauses {
        let seconds =
            |first, most| Pauses { first: Duration::from_secs(first), most: Duration::from_secs(most) };
        match self {
            Obstacle::Away => seconds(5, 30),
            Obstacle::HostKey => seconds(10, 60),
            // Five failed logins in ten minutes are enough for a ban with fail2ban's own settings: at most four
            // are made.
            Obstacle::Login => seconds(60, 300),
            // Nothing is connected for that.
            Obstacle::NoKey => seconds(2, 2),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn fewer_logins_are_refused_than_make_a_ban() {
        let pauses = Obstacle::Login.pauses();
        let mut tried = vec![0];
        let mut before = None;
        for _ in 0..20 {
            let pause = pauses.after(before);
            tried.push(tried.last().unwrap() + pause.as_secs());
            before = Some(pause);
        }
        for start in &tried {
            let within = tried.iter().filter(|at| (*start..start + 600).contains(*at)).count();
            assert!(within < 5, "{within} within ten minutes of {start} s: {tried:?}");
        }
    }

    #[test]
    fn an_answer_is_kept_twice_as_long_each_time() {
        let pauses = Obstacle::Away.pauses();
        let seconds = |pause: Option<u64>| pauses.after(pause.map(Duration::from_secs)).as_secs();
        assert_eq!([None, Some(5), Some(20), Some(30)].map(seconds), [5, 10, 30, 30]);
        // The obstacle may have been another one before.
        assert_eq!(Obstacle::Login.pauses().after(Some(Duration::from_secs(2))).as_secs(), 60);
        assert_eq!(Obstacle::NoKey.pauses().after(Some(Duration::from_secs(300))).as_secs(), 2);
    }

    #[tokio::test]
    async fn many_who_ask_are_one_question() {
        let probe = Probe::default();
        let asked = Arc::new(AtomicU32::new(0));
        let pauses = Pauses { first: Duration::from_millis(500), most: Duration::from_secs(60) };
        let question = |takes: u64| {
            let asked = asked.clone();
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(takes)).await;
                (Err(Trouble { status: "login refused", detail: "the key".into() }), pauses)
            }
        };
        // The first of them hangs up.
        assert!(timeout(Duration::from_millis(1), probe.ask(question(200))).await.is_err());
        let all = futures::future::join_all((0..200).map(|_| probe.ask(question(200)))).await;
        assert!(all.iter().all(|answer| answer.as_ref().unwrap_err().status == "login refused"));
        assert_eq!(asked.load(Ordering::Relaxed), 1);

        // Later it is asked anew, and whoever is in a hurry gets the old answer.
        let until = probe.0.kept().unwrap().until;
        tokio::time::sleep_until(until).await;
        let begun = Instant::now();
        probe.ask(question(60_000)).await.unwrap_err();
        assert!(begun.elapsed() < WAITED_FOR_NEW * 3, "{:?}", begun.elapsed());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
