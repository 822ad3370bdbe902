//! What an answer means, and what to do next. Pure: no clock, no network.

use deployer_plugin::http::{Failure, Response};

use crate::settings::Settings;

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Right,
    /// It answers, and not as it should: with this for a reason.
    Wrong(String),
    /// Nobody answers yet: refused, reset, too slow.
    Silent(String),
    /// It cannot be asked at all: waiting does not help.
    Impossible(String),
}

/// What to do after a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Pass,
    Fail(String),
    ProbeIn { ms: u32 },
}

/// Reads an answer.
pub fn seen(settings: &Settings, answer: &Result<Response, Failure>) -> Seen {
    let response = match answer {
        Ok(response) => response,
        Err(Failure::Refused) => return Seen::Silent("connection refused".into()),
        Err(Failure::TimedOut) => {
            return Seen::Silent(format!("no answer within {} ms", settings.timeout_ms));
        }
        Err(Failure::Broken(reason)) => return Seen::Silent(reason.clone()),
        Err(Failure::Unavailable(error)) => {
            return Seen::Impossible(format!("{}; {}", error.seen, error.next));
        }
    };
    if !settings.status.allow(response.status) {
        return Seen::Wrong(format!("{} instead of {}", response.status, settings.status));
    }
    for (name, value) in &settings.expect_headers {
        let found = response.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        match found {
            Some((_, found)) if found == value => {}
            Some((_, found)) => {
                return Seen::Wrong(format!("the header {name} is `{found}` instead of `{value}`"));
            }
            None => return Seen::Wrong(format!("no header `{name}`")),
        }
    }
    if let Some(text) = &settings.body_contains
        && !String::from_utf8_lossy(&response.body).contains(text.as_str())
    {
        return Seen::Wrong(format!("the body does not contain `{text}`"));
    }
    Seen::Right
}

/// Decides after a probe: `wrong` counts the wrong answers so far, this one included; `at_ms` is the time
/// since the first probe.
pub fn next(settings: &Settings, seen: &Seen, wrong: u32, at_ms: u64) -> Next {
    let deadline_ms = u64::from(settings.deadline_seconds) * 1000;
    match seen {
        Seen::Right => Next::Pass,
        Seen::Impossible(reason) => Next::Fail(reason.clone()),
        Seen::Wrong(reason) if wrong >= settings.attempts => {
            Next::Fail(format!("{wrong} wrong answers: {reason}"))
        }
        Seen::Wrong(reason) if at_ms >= deadline_ms => Next::Fail(reason.clone()),
        Seen::Wrong(_) => Next::ProbeIn { ms: settings.attempt_interval_ms },
        Seen::Silent(reason) if at_ms >= deadline_ms => {
            Next::Fail(format!("no right answer after {} s: {reason}", settings.deadline_seconds))
        }
        Seen::Silent(_) => Next::ProbeIn { ms: settings.interval_ms },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Statuses;
    use deployer_plugin::types::{Error, Fault};

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Response, Failure> {
        Ok(Response {
            status,
            headers: headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            body: body.into(),
        })
    }

    #[test]
    fn what_an_answer_means() {
        let strict = Settings {
            status: Statuses::Several(vec![200, 204]),
            body_contains: Some("ok".into()),
            expect_headers: [("x-app".into(), "shop".into())].into(),
            ..Settings::default()
        };
        let app = &[("X-App", "shop")];
        let check = |answer, expect: Seen| assert_eq!(seen(&strict, &answer), expect);
        check(answer(200, app, "it is ok"), Seen::Right);
        check(answer(204, app, "ok"), Seen::Right);
        check(answer(500, app, "ok"), Seen::Wrong("500 instead of 200 or 204".into()));
        check(answer(200, app, "no"), Seen::Wrong("the body does not contain `ok`".into()));
        check(answer(200, &[], "ok"), Seen::Wrong("no header `x-app`".into()));
        check(
            answer(200, &[("x-app", "x")], "ok"),
            Seen::Wrong("the header x-app is `x` instead of `shop`".into()),
        );
        check(Err(Failure::Refused), Seen::Silent("connection refused".into()));
        check(Err(Failure::TimedOut), Seen::Silent("no answer within 5000 ms".into()));
        let gone = Error::new(Fault::Target, "send", "the target is gone", "");
        check(Err(Failure::Unavailable(gone)), Seen::Impossible("the target is gone; ".into()));
    }

    #[test]
    fn what_comes_next() {
        let settings = Settings::default();
        let check = |seen: Seen, wrong, at_ms, expect| {
            assert_eq!(next(&settings, &seen, wrong, at_ms), expect, "{seen:?} {wrong} {at_ms}");
        };
        let silent = Seen::Silent("connection refused".into());
        let wrong = Seen::Wrong("500 instead of 200".into());
        check(Seen::Right, 2, 40_000, Next::Pass);
        check(Seen::Impossible("no grant".into()), 0, 0, Next::Fail("no grant".into()));
        check(silent.clone(), 0, 0, Next::ProbeIn { ms: 250 });
        check(silent.clone(), 0, 29_999, Next::ProbeIn { ms: 250 });
        check(silent, 0, 30_000, Next::Fail("no right answer after 30 s: connection refused".into()));
        check(wrong.clone(), 1, 0, Next::ProbeIn { ms: 1000 });
        check(wrong.clone(), 2, 0, Next::ProbeIn { ms: 1000 });
        check(wrong.clone(), 3, 0, Next::Fail("3 wrong answers: 500 instead of 200".into()));
        check(wrong, 1, 30_000, Next::Fail("500 instead of 200".into()));
    }
}
