//! Why a body ends early.

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("cannot read the body")]
    Read(#[from] hyper::Error),
    #[error("the body stopped arriving")]
    Stalled,
    #[error("the body is longer than allowed")]
    TooLarge,
}
