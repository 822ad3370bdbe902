//! What must not be seen: the environments' encryption, the type that cannot be printed, and the redactor of what people
//! read.

mod encryption;
mod redact;
mod value;

pub use encryption::{Cipher, CipherError};
pub use redact::{Hidden, Redactor};
pub use value::Secret;
