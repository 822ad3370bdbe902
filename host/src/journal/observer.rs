//! Somebody who is told of each record as it becomes durable. The program has nobody there: the tests plug in
//! one that ends the process at a record, so that what can end it is in the tests' own program only.

/// Is told of the records that a job goes on by.
pub trait Observer: Send + Sync {
    /// The next record is the first of a new part: a step begins or ends.
    fn part(&self);

    /// A record is about to be made durable. What this gives comes back in `recorded`.
    fn recording(&self, what: &'static str) -> u64;

    /// That record is durable, or could not be made so.
    fn recorded(&self, number: u64);
}
