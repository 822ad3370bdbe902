//! The audit: who did what, and how it ended. Each record is bound to the one before it by a hash, so that one
//! that was changed or taken away is found. Pure: the store keeps the records and calls this to look at them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::model::{Actor, JobKind, JobStatus};

/// What stands where the first record has the hash of the one before.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One thing that was done. Of an environment it has the names, never the values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Counts from 1, without gaps.
    pub seq: u64,
    /// RFC 3339 in UTC.
    pub at: String,
    pub actor: Actor,
    pub deploy_job_id: String,
    pub kind: JobKind,
    pub service_name: String,
    pub release: String,
    pub target: String,
    #[serde(flatten)]
    pub action: AuditAction,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum AuditAction {
    /// The actor asked for the job, and it was accepted.
    Accepted {
        deployment_method: String,
        service_path: String,
        service_port: u16,
        /// Names only.
        environment: Vec<String>,
    },
    /// The actor asked the job to end.
    CancelAsked,
    /// The actor's job is over.
    Ended {
        status: JobStatus,
        /// What runs now, in words.
        outcome: Option<String>,
        /// The same for programs, where the job did not complete.
        aftermath: Option<String>,
        /// The fingerprint of the target's key; none when the job never had the target to work on.
        host_key: Option<String>,
        /// The plugins that were called, in the order of their names. One that was replaced meanwhile is there
        /// twice.
        plugins: Vec<UsedPlugin>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedPlugin {
    pub name: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
}

/// A record as it was written, and what binds it to the one before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditEntry {
    #[serde(flatten)]
    pub record: Map<String, Value>,
    /// The hash of the record before.
    pub previous: String,
    pub hash: String,
}

/// A record's place and hash, written `SEQ:HASH`. Kept elsewhere, the last one's tells later whether the audit
/// was cut short or written anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    pub seq: u64,
    pub hash: String,
}

#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "must be SEQ:HASH, as `deployer audit verify` prints it: a number from 1 up and 64 hexadecimal digits"
)]
pub struct NoHead;

/// What looking at the whole audit came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditVerdict {
    /// Every record is as it was written. There is no head where there is no record.
    Whole {
        head: Option<AuditHead>,
    },
    Broken(AuditBreak),
}

/// The first place where the audit is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBreak {
    pub seq: u64,
    pub reason: BreakReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakReason {
    /// The record is not the one that was written.
    Changed,
    Missing,
    /// Another record stands in its place.
    OutOfOrder,
}

/// A row of the store. The record is in bytes, because a changed one may not be text.
pub struct Link<'a> {
    pub seq: u64,
    pub record: &'a [u8],
    pub previous: &'a str,
    pub hash: &'a str,
}

/// Follows the audit from its first record on. It holds no more than one hash, however long the audit is.
pub struct Chain {
    known: Option<AuditHead>,
    seq: u64,
    hash: String,
}

impl AuditRecord {
    /// The text that is kept and hashed: keys in order, no spaces.
    ///
    /// # Errors
    /// When it cannot be JSON, which no value of this type is.
    pub fn canonical(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_value(self)?.to_string())
    }
}

/// SHA-256 over the hash before and the record, in hexadecimal.
pub fn hash(previous: &str, record: &[u8]) -> String {
    hex::encode(Sha256::new().chain_update(previous).chain_update(record).finalize())
}

impl Chain {
    /// `known` is a head that was kept elsewhere.
    pub fn new(known: Option<AuditHead>) -> Self {
        Chain { known, seq: 0, hash: BEGINNING.into() }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// When it is not what was written after the one before.
    pub fn follow(&mut self, link: &Link<'_>) -> Result<(), AuditBreak> {
        let seq = self.seq + 1;
        if link.seq != seq {
            return Err(AuditBreak { seq, reason: BreakReason::Missing });
        }
        if hash(link.previous, link.record) != link.hash {
            return Err(AuditBreak { seq, reason: BreakReason::Changed });
        }
        if link.previous != self.hash {
            // The record is whole, so it is in another's place, or the one before was written anew.
            return Err(if own_seq(link.record) == Some(seq) {
                AuditBreak { seq: self.seq.max(1), reason: BreakReason::Changed }
            } else {
                AuditBreak { seq, reason: BreakReason::OutOfOrder }
            });
        }
        if self.known.as_ref().is_some_and(|known| known.seq == seq && known.hash != link.hash) {
            return Err(AuditBreak { seq, reason: BreakReason::Changed });
        }
        self.seq = seq;
        link.hash.clone_into(&mut self.hash);
        Ok(())
    }

    /// There are no more records.
    pub fn end(self) -> AuditVerdict {
        if self.known.is_some_and(|known| known.seq > self.seq) {
            return AuditVerdict::Broken(AuditBreak { seq: self.seq + 1, reason: BreakReason::Missing });
        }
        let head = (self.seq > 0).then_some(AuditHead { seq: self.seq, hash: self.hash });
        AuditVerdict::Whole { head }
    }
}

/// The place that a record says it has.
fn own_seq(record: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(record).ok()?.get("seq")?.as_u64()
}

impl std::fmt::Display for AuditHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for AuditHead {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let (seq, hash) = text.trim().split_once(':').ok_or(NoHead)?;
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or(NoHead)?;
        let right = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if right { Ok(AuditHead { seq, hash: hash.to_ascii_lowercase() }) } else { Err(NoHead) }
    }
}

impl std::fmt::Display for AuditBreak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seq = self.seq;
        match self.reason {
            BreakReason::Changed => write!(f, "record {seq} is not as it was written"),
            BreakReason::Missing => write!(f, "record {seq} is missing"),
            BreakReason::OutOfOrder => write!(f, "another record is in the place of record {seq}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record and its hashes, as the store has them.
    #[derive(Clone)]
    struct Row {
        seq: u64,
        record: String,
        previous: String,
        hash: String,
    }

    fn rows(count: u64) -> Vec<Row> {
        let mut previous = BEGINNING.to_owned();
        (1..=count)
            .map(|seq| {
                let record = format!(r#"{{"actor":"ann","seq":{seq}}}"#);
                let hash = hash(&previous, record.as_bytes());
                Row { seq, record, previous: std::mem::replace(&mut previous, hash.clone()), hash }
            })
            .collect()
    }

    fn verdict(rows: &[Row], known: Option<&Row>) -> AuditVerdict {
        let known = known.map(|row| AuditHead { seq: row.seq, hash: row.hash.clone() });
        let mut chain = Chain::new(known);
        for row in rows {
            let Row { seq, record, previous, hash } = row;
            if let Err(broken) = chain.follow(&Link { seq: *seq, record: record.as_bytes(), previous, hash })
            {
                return AuditVerdict::Broken(broken);
            }
        }
        chain.end()
    }

    fn broken(seq: u64, reason: BreakReason) -> AuditVerdict {
        AuditVerdict::Broken(AuditBreak { seq, reason })
    }

    #[test]
    fn what_was_done_to_an_audit_is_found_where_it_was_done() {
        use BreakReason::{Changed, Missing, OutOfOrder};
        let check = |what: &str, change: &dyn Fn(&mut Vec<Row>), expect: AuditVerdict| {
            let mut rows = rows(5);
            change(&mut rows);
            assert_eq!(verdict(&rows, None), expect, "{what}");
        };
        let head = AuditHead { seq: 5, hash: rows(5)[4].hash.clone() };
        check("nothing", &|_| {}, AuditVerdict::Whole { head: Some(head) });
        check("all removed", &|rows| rows.clear(), AuditVerdict::Whole { head: None });
        check("changed", &|rows| rows[2].record = rows[2].record.replace("ann", "bob"), broken(3, Changed));
        check("its hash changed", &|rows| rows[2].hash = BEGINNING.into(), broken(3, Changed));
        let rewritten = |at: usize| {
            move |rows: &mut Vec<Row>| {
                rows[at].record = rows[at].record.replace("ann", "bob");
                rows[at].hash = hash(&rows[at].previous, rows[at].record.as_bytes());
            }
        };
        check("changed with its hash", &rewritten(2), broken(3, Changed));
        check("the first one changed with its hash", &rewritten(0), broken(1, Changed));
        check("the first one removed", &|rows| drop(rows.remove(0)), broken(1, Missing));
        check("one in the middle removed", &|rows| drop(rows.remove(2)), broken(3, Missing));
        check(
            "one removed, and the rest moved up",
            &|rows| {
                rows.remove(2);
                (1..).zip(rows).for_each(|(seq, row)| row.seq = seq);
            },
            broken(3, OutOfOrder),
        );
        check(
            "two swapped",
            &|rows| {
                rows.swap(2, 3);
                (1..).zip(rows).for_each(|(seq, row)| row.seq = seq);
            },
            broken(3, OutOfOrder),
        );
    }

    #[test]
    fn what_only_a_known_head_can_tell() {
        use BreakReason::{Changed, Missing};
        let written = rows(5);
        let whole = |count: usize| AuditVerdict::Whole {
            head: Some(AuditHead { seq: written[count - 1].seq, hash: written[count - 1].hash.clone() }),
        };
        assert_eq!(verdict(&written, written.last()), whole(5));
        assert_eq!(verdict(&written, Some(&written[2])), whole(5), "it has grown since");
        assert_eq!(verdict(&written[..3], None), whole(3), "the end is missing, and nothing tells");
        assert_eq!(verdict(&written[..3], written.last()), broken(4, Missing));
        assert_eq!(verdict(&[], written.last()), broken(1, Missing));
        let mut anew = rows(5);
        let mut previous = BEGINNING.to_owned();
        for row in &mut anew {
            row.record = row.record.replace("ann", "bob");
            row.hash = hash(&previous, row.record.as_bytes());
            row.previous = std::mem::replace(&mut previous, row.hash.clone());
        }
        assert!(matches!(verdict(&anew, None), AuditVerdict::Whole { .. }), "all of it is written anew");
        assert_eq!(verdict(&anew, written.last()), broken(5, Changed));
    }

    #[test]
    fn a_head_is_a_place_and_a_hash() {
        let hash = "ab".repeat(32);
        let check = |text: String, expect: Option<u64>| {
            assert_eq!(text.parse::<AuditHead>().ok().map(|head| head.seq), expect, "{text}");
        };
        check(format!("7:{hash}"), Some(7));
        check(format!(" 7:{} ", hash.to_uppercase()), Some(7));
        check(format!("0:{hash}"), None);
        check(format!("-1:{hash}"), None);
        check(hash.clone(), None);
        check(format!("7:{}", &hash[1..]), None);
        check(format!("7:{}x", &hash[1..]), None);
        let head = AuditHead { seq: 7, hash };
        assert_eq!(head.to_string().parse(), Ok(head));
    }

    #[test]
    fn a_record_is_written_with_its_keys_in_order() {
        let record = AuditRecord {
            seq: 1,
            at: "2026-01-01T00:00:00.000Z".into(),
            actor: Actor { name: "ci".into(), from: "127.0.0.1:5".into() },
            deploy_job_id: "deploy-1".into(),
            kind: JobKind::Deploy,
            service_name: "shop".into(),
            release: "r1".into(),
            target: "root@server:22".into(),
            action: AuditAction::CancelAsked,
        };
        let text = record.canonical().unwrap();
        assert_eq!(
            text,
            r#"{"action":"cancel_asked","actor":{"from":"127.0.0.1:5","name":"ci"},"at":"2026-01-01T00:00:00.000Z","deploy_job_id":"deploy-1","kind":"deploy","release":"r1","seq":1,"service_name":"shop","target":"root@server:22"}"#
        );
        assert_eq!(serde_json::from_str::<AuditRecord>(&text).unwrap(), record);
        // As `printf '%064d%s' 0 "$record" | sha256sum` says.
        let by_hand = "3b8929f0e5e4b331628d4523c863afa30bceafdc9282d6a6fba435be50a04b4e";
        assert_eq!(hash(BEGINNING, text.as_bytes()), by_hand);
    }
}
