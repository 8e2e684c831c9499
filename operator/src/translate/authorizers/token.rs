//! Where requests carry their tokens.

use sluice_crds::authorizer::TokenFrom;
use sluice_wire::TokenSource;

use crate::fields;
use crate::problem::Problems;

/// The places in a list of them.
pub(super) fn token_sources(field: &str, places: &[TokenFrom], problems: &mut Problems) -> Vec<TokenSource> {
    if places.is_empty() {
        problems.invalid(field, "at least one entry is required");
    }
    places.iter().enumerate().map(|(at, from)| token_source(&format!("{field}[{at}]"), from, problems)).collect()
}

fn token_source(field: &str, from: &TokenFrom, problems: &mut Problems) -> TokenSource {
    let header = fields::header_name(&from.header).unwrap_or_else(|why| {
        problems.invalid(&format!("{field}.header"), why);
        String::new()
    });
    TokenSource { header, scheme: from.scheme.clone() }
}
