//! Verify: probes the service over HTTP until it is healthy.
//!
//! The first probe is sent at once, and the clock starts with it: what came before does not count against
//! the service. A service that has died is known at once.

mod decision;
mod settings;

use std::time::{Duration, Instant};

use deployer_plugin::http::{self, Destination, Failure, Request, Response};
use deployer_plugin::instance::{self, Liveness};
use deployer_plugin::types::{Deployment, Error, Instance, Outcome, Probe, Verdict};
use deployer_plugin::{control, log};

use decision::{Next, Seen};
use settings::{Settings, Via};

deployer_plugin::world!("verifier");

/// How long a cancelled job may go on sleeping.
const NAP: Duration = Duration::from_millis(200);
/// How much of a body is kept with a probe.
const BODY_BYTES: usize = 512;
/// How many probes are kept: the first and the last ones of a long row say it all.
const PROBES: usize = 50;
/// How often it is asked at most whether the instance still lives.
const ALIVE_EVERY: Duration = Duration::from_millis(500);

struct Health;

impl phases::plugin::Guest for Health {
    fn describe() -> phases::plugin::Description {
        phases::plugin::Description {
            name: "health".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            settings_schema: deployer_plugin::settings::schema::<Settings>(),
        }
    }
}

impl phases::verify::Guest for Health {
    fn verify(deployment: Deployment, instance: Instance) -> Result<Verdict, Error> {
        let settings: Settings = deployer_plugin::settings::settings(&deployment)?;
        let verdict = verify(&settings, &instance)?;
        if verdict.outcome == Outcome::Failed {
            show_log_tail();
        }
        Ok(verdict)
    }
}

fn verify(settings: &Settings, instance: &Instance) -> Result<Verdict, Error> {
    let request = request(settings, instance);
    let asked = asked(settings, instance);
    let began = Instant::now();
    let mut asked_alive = began;
    let mut probes = Vec::new();
    let mut wrong = 0;
    let outcome = loop {
        let at = began.elapsed();
        let answer = http::send(&request);
        let seen = decision::seen(settings, &answer);
        probes.push(probe(&asked, &seen, answer, at, began.elapsed()));
        if matches!(seen, Seen::Wrong(_)) {
            wrong += 1;
        }
        let next = decision::next(settings, &seen, wrong, millis(began.elapsed()));
        // Somebody else may answer at the port of an instance that has died.
        let ask = next == Next::Pass || probes.len() == 1 || asked_alive.elapsed() >= ALIVE_EVERY;
        if ask {
            asked_alive = Instant::now();
            if let Some(death) = death(instance)? {
                break Err(death);
            }
        }
        match next {
            Next::Pass => break Ok(()),
            Next::Fail(reason) => break Err(reason),
            Next::ProbeIn { ms } => {
                if cancelled_within(Duration::from_millis(ms.into())) {
                    break Err("cancelled".into());
                }
            }
        }
    };
    let count = probes.len();
    let took = began.elapsed().as_secs_f64();
    let many = if count == 1 { "" } else { "s" };
    Ok(Verdict {
        outcome: if outcome.is_ok() { Outcome::Passed } else { Outcome::Failed },
        summary: match outcome {
            Ok(()) => format!("healthy after {count} probe{many} in {took:.1} s"),
            Err(reason) => format!("{reason} ({count} probe{many} of {asked} in {took:.1} s)"),
        },
        probes: shorten(probes),
    })
}

fn request(settings: &Settings, instance: &Instance) -> Request {
    let port = settings.port.unwrap_or(instance.port);
    Request {
        method: "GET".into(),
        destination: match settings.via {
            Via::Target => Destination::Loopback(port),
            Via::Network => Destination::Network(port),
        },
        path: settings.path.clone(),
        headers: settings.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        body: Vec::new(),
        timeout_ms: settings.timeout_ms,
    }
}

fn asked(settings: &Settings, instance: &Instance) -> String {
    let port = settings.port.unwrap_or(instance.port);
    match settings.via {
        Via::Target => format!("GET http://127.0.0.1:{port}{} through SSH", settings.path),
        Via::Network => format!("GET port {port}{} through the network", settings.path),
    }
}

fn probe(
    asked: &str,
    seen: &Seen,
    answer: Result<Response, Failure>,
    at: Duration,
    until: Duration,
) -> Probe {
    let body = answer.as_ref().map_or(&[][..], |response| {
        response.body.get(..BODY_BYTES.min(response.body.len())).unwrap_or_default()
    });
    Probe {
        at_ms: millis(at),
        took_ms: millis(until.saturating_sub(at)),
        asked: asked.into(),
        answered: match (seen, &answer) {
            (Seen::Right, Ok(response)) => response.status.to_string(),
            (Seen::Wrong(reason) | Seen::Silent(reason) | Seen::Impossible(reason), _) => reason.clone(),
            (Seen::Right, Err(_)) => String::new(),
        },
        body: String::from_utf8_lossy(body).into_owned(),
    }
}

/// Sleeps in short pieces, so that a cancelled job need not wait for the next probe.
fn cancelled_within(pause: Duration) -> bool {
    let until = Instant::now() + pause;
    loop {
        if control::cancelled() {
            return true;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(left.min(NAP));
    }
}

/// Why the instance does not live any more, if it does not.
fn death(instance: &Instance) -> Result<Option<String>, Error> {
    Ok(match instance::alive()? {
        Liveness::Alive | Liveness::Unknown => None,
        Liveness::Dead(what) => {
            Some(format!("the {} {} is not running: {what}", instance.kind, instance.name))
        }
    })
}

fn show_log_tail() {
    match instance::log_tail() {
        Ok(text) => {
            for line in text.lines() {
                log::write(log::Level::Warn, line);
            }
        }
        Err(error) => {
            log::write(log::Level::Warn, &format!("the service's log could not be read: {}", error.seen))
        }
    }
}

/// Keeps the first and the last of a long row, and says how many are left out.
fn shorten(mut probes: Vec<Probe>) -> Vec<Probe> {
    let Some(extra) = probes.len().checked_sub(PROBES).filter(|extra| *extra > 0) else { return probes };
    let half = PROBES / 2;
    probes.drain(half..half + extra);
    if let Some(last) = probes.get_mut(half) {
        last.answered = format!("({extra} probes before this one are left out) {}", last.answered);
    }
    probes
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

bindings::export!(Health with_types_in bindings);
