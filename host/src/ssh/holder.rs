//! Who has a lease, for people.

use std::fmt;

/// Who has a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub job: String,
    pub who: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.who.as_str(), self.job.as_str()) {
            ("", _) => f.write_str("nobody (its lease was taken away)"),
            (who, "") => f.write_str(who),
            (who, job) => write!(f, "{who}, for {job}"),
        }
    }
}
