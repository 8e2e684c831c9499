//! What both forms of a credential have in common: its parts, as text.

use std::borrow::Cow;

use crate::error::Incomplete;

/// The parts of a credential.
pub(crate) struct Fields<'a> {
    pub(crate) algorithm: Cow<'a, str>,
    pub(crate) credential: Cow<'a, str>,
    pub(crate) signed_headers: Cow<'a, str>,
    pub(crate) signature: Cow<'a, str>,
    pub(crate) date: Cow<'a, str>,
    pub(crate) session_token: Option<Cow<'a, str>>,
    pub(crate) content_hash: Option<Cow<'a, str>>,
    pub(crate) form: Form<'a>,
}

/// Where the credential is.
pub(crate) enum Form<'a> {
    /// In headers; with the name of the one that has the date.
    Header(&'static str),
    /// In the query; with `X-Amz-Expires`.
    Query(Option<Cow<'a, str>>),
}

/// Stores a parameter. A second one of this name is an error.
pub(crate) fn set<'a>(
    slot: &mut Option<Cow<'a, str>>,
    what: &'static str,
    value: Cow<'a, str>,
    max: usize,
) -> Result<(), Incomplete> {
    if value.len() > max {
        return Err(Incomplete::TooLong { what, max });
    }
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Incomplete::Repeated { what }),
    }
}

/// The value of a parameter; an empty one is missing.
pub(crate) fn take<'a>(slot: Option<Cow<'a, str>>, missing: &mut bool) -> Cow<'a, str> {
    let value = slot.unwrap_or_default();
    *missing = value.is_empty();
    value
}
