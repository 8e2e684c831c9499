//! Why a body ends early.

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("cannot read the body")]
    Read(#[from] hyper::Error),
    #[error("the client stopped sending the body")]
    Stalled,
    #[error("the body took longer than a request may take")]
    TooOld,
    #[error("the body exceeds the limit")]
    TooLarge,
}
