//! How large an answer may be before anything is made of it: free texts are cut, what things are found again by and
//! what is too many is refused.

use crate::capability::limits;
use crate::contract::{Artifact, Error, Files, Finding, Instance, Probe, Registration, Verdict};

/// An answer that can be made to fit.
pub(super) trait Bounded: Sized {
    /// The answer with its texts cut; or what of it is too large to be used at all.
    fn bounded(self) -> Result<Self, String>;
}

impl Bounded for () {
    fn bounded(self) -> Result<Self, String> {
        Ok(self)
    }
}

impl<T: Bounded> Bounded for Option<T> {
    fn bounded(self) -> Result<Self, String> {
        self.map(Bounded::bounded).transpose()
    }
}

impl Bounded for Vec<Finding> {
    fn bounded(mut self) -> Result<Self, String> {
        if self.len() > limits::FINDINGS {
            return Err(format!("{} findings, and {} are the most", self.len(), limits::FINDINGS));
        }
        limits::cut_all(self.iter_mut().flat_map(|finding| {
            let Finding { severity: _, check, message, next } = finding;
            [check, message, next]
        }));
        Ok(self)
    }
}

impl Bounded for Files {
    fn bounded(self) -> Result<Self, String> {
        identifier(&self.path, "the files' path")?;
        identifier(&self.digest, "the files' digest")?;
        Ok(self)
    }
}

impl Bounded for Artifact {
    fn bounded(self) -> Result<Self, String> {
        identifier(&self.kind, "the artifact's kind")?;
        identifier(&self.reference, "the artifact's reference")?;
        identifier(&self.digest, "the artifact's digest")?;
        Ok(self)
    }
}

impl Bounded for Instance {
    fn bounded(self) -> Result<Self, String> {
        identifier(&self.kind, "the instance's kind")?;
        identifier(&self.name, "the instance's name")?;
        command(&self.alive, "the instance's `alive` command")?;
        command(&self.log_tail, "the instance's `log-tail` command")?;
        Ok(self)
    }
}

impl Bounded for Verdict {
    fn bounded(mut self) -> Result<Self, String> {
        if let Some(extra) = self.probes.len().checked_sub(limits::PROBES).filter(|extra| *extra > 0) {
            let half = limits::PROBES / 2;
            self.probes.drain(half..half + extra);
            if let Some(next) = self.probes.get_mut(half) {
                next.answered.insert_str(0, &format!("({extra} probes before this one are left out) "));
            }
            self.probes.shrink_to_fit();
        }
        let probes = self.probes.iter_mut().flat_map(|probe| {
            let Probe { at_ms: _, took_ms: _, asked, answered, body } = probe;
            [asked, answered, body]
        });
        limits::cut_all(std::iter::once(&mut self.summary).chain(probes));
        Ok(self)
    }
}

impl Bounded for Registration {
    fn bounded(mut self) -> Result<Self, String> {
        identifier(&self.endpoint, "the registration's endpoint")?;
        let bytes = self.response.len();
        if bytes > limits::RESPONSE {
            // It stays JSON: it says what it was, and how it began.
            limits::cut(&mut self.response, limits::TEXT);
            self.response = serde_json::json!({ "bytes": bytes, "begins": self.response }).to_string();
        }
        Ok(self)
    }
}

/// A plugin's own error, with its words cut.
pub(super) fn cut(mut error: Error) -> Error {
    let Error { fault: _, attempted, seen, next } = &mut error;
    for text in [attempted, seen, next] {
        limits::cut(text, limits::TEXT);
    }
    error
}

fn identifier(text: &str, what: &str) -> Result<(), String> {
    if text.len() <= limits::IDENTIFIER {
        return Ok(());
    }
    let (bytes, most) = (text.len(), limits::IDENTIFIER);
    Err(format!("{what} has {bytes} bytes, and {most} are the most: {}", limits::brief(text)))
}

fn command(argv: &[String], what: &str) -> Result<(), String> {
    let bytes: usize = argv.iter().map(|word| word.len() + 1).sum();
    if bytes <= limits::COMMAND {
        return Ok(());
    }
    Err(format!("{what} has {bytes} bytes, and {} are the most", limits::COMMAND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Outcome, Severity};

    fn refused<T: Bounded>(answer: T, part: &str) {
        match answer.bounded() {
            Ok(_) => panic!("it was taken, where {part:?} was expected"),
            Err(problem) => assert!(problem.contains(part) && problem.len() < 1024, "{problem}"),
        }
    }

    #[test]
    fn findings() {
        let finding = |text: &str| Finding {
            severity: Severity::Passed,
            check: "c".into(),
            message: text.into(),
            next: String::new(),
        };
        let long = vec![finding(&"x".repeat(50 << 20))].bounded().unwrap();
        assert!(long[0].message.len() < limits::TEXT + 64, "{}", long[0].message.len());
        assert!(long[0].message.ends_with("(cut here: 52428800 bytes in all)"));
        assert_eq!(vec![finding("short")].bounded().unwrap()[0].message, "short");
        assert_eq!(vec![finding(""); limits::FINDINGS].bounded().unwrap().len(), limits::FINDINGS);
        refused(vec![finding(""); limits::FINDINGS + 1], "1001 findings, and 1000 are the most");
        let many = vec![finding(&"x".repeat(20_000)); 1_000].bounded().unwrap();
        assert!(many.iter().map(|one| one.message.len()).sum::<usize>() < 2 * limits::TEXTS);
    }

    #[test]
    fn what_things_are_found_again_by() {
        let long = "x".repeat(20 << 20);
        let artifact = |kind: &str, reference: &str, digest: &str| Artifact {
            kind: kind.into(),
            reference: reference.into(),
            digest: digest.into(),
            bytes: None,
        };
        refused(artifact(&long, "r", ""), "the artifact's kind has 20971520 bytes, and 4096 are the most");
        refused(artifact("k", &long, ""), "the artifact's reference");
        refused(artifact("k", "r", &long), "the artifact's digest");
        artifact("k", &"r".repeat(4096), "").bounded().unwrap();

        let instance = Instance {
            kind: "k".into(),
            name: "n".into(),
            port: 1,
            alive: vec![String::new(); 20_000],
            log_tail: vec![],
        };
        refused(instance.clone(), "`alive` command has 20000 bytes");
        refused(Some(Instance { alive: vec![], name: long.clone(), ..instance }), "the instance's name");
        let files =
            Files { path: "/x".into(), count: 0, bytes: 0, sent_count: 0, sent_bytes: 0, digest: long };
        refused(files, "the files' digest");
    }

    #[test]
    fn the_first_and_the_last_probes_are_kept() {
        let probe = |at_ms| Probe {
            at_ms,
            took_ms: 1,
            asked: "GET".into(),
            answered: "200".into(),
            body: String::new(),
        };
        let verdict = Verdict {
            outcome: Outcome::Passed,
            summary: "s".repeat(1 << 20),
            probes: (0..5_000).map(probe).collect(),
        };
        let verdict = verdict.bounded().unwrap();
        assert!(verdict.summary.len() < limits::TEXT + 64);
        assert_eq!(verdict.probes.len(), limits::PROBES);
        assert_eq!((verdict.probes[499].at_ms, verdict.probes[500].at_ms), (499, 4500));
        assert_eq!(verdict.probes[500].answered, "(4000 probes before this one are left out) 200");
    }

    #[test]
    fn a_registrys_long_answer_stays_json() {
        let registration = Registration {
            droplet_id: None,
            endpoint: "http://h:1".into(),
            response: format!("\"{}\"", "x".repeat(limits::RESPONSE)),
        };
        let response = registration.bounded().unwrap().response;
        let read: serde_json::Value = serde_json::from_str(&response).unwrap();
        assert_eq!(read["bytes"], limits::RESPONSE + 2);
        assert!(response.len() < 2 * limits::TEXT);
    }

    #[test]
    fn an_errors_words_are_cut() {
        let long = "x".repeat(1 << 20);
        let error = Error {
            fault: crate::contract::Fault::Plugin,
            attempted: long.clone(),
            seen: long.clone(),
            next: long,
        };
        let error = cut(error);
        let all = error.attempted.len() + error.seen.len() + error.next.len();
        assert!(all < 3 * (limits::TEXT + 64), "{all}");
    }
}
