//! Caps of what a request presents.

/// The longest header `authorization`.
pub const MAX_AUTHORIZATION: usize = 8192;

/// The longest credential: access key ids of AWS have at most 128 characters.
pub const MAX_CREDENTIAL: usize = 512;

/// The longest session token. AWS names no cap; those of roles with many tags have more than 1,000 bytes.
pub const MAX_SESSION_TOKEN: usize = 8192;

/// The largest number of signed headers.
pub const MAX_SIGNED_HEADERS: usize = 100;

/// The longest time for which a presigned request can be valid, in seconds: a week.
pub const MAX_EXPIRES: u32 = 604_800;
