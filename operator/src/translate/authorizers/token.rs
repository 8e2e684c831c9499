//! Where requests carry their tokens, and the tolerance for their times.

use sluice_crds::authorizer::TokenFrom;
use sluice_crds::field::Duration;
use sluice_wire::TokenSource;

use crate::fields;
use crate::problem::Problems;

const MAX_CLOCK_SKEW_S: u64 = 300;

/// A tolerance for times, in seconds.
pub(super) fn clock_skew(field: &str, skew: Duration, problems: &mut Problems) -> u64 {
    let seconds = fields::whole_seconds(field, skew, problems);
    if seconds > MAX_CLOCK_SKEW_S {
        problems.invalid(field, "must be at most 5m");
    }
    seconds
}

/// The places in a list of them.
pub(super) fn token_sources(field: &str, places: &[TokenFrom], problems: &mut Problems) -> Vec<TokenSource> {
    if places.is_empty() {
        problems.invalid(field, "at least one entry is required");
    }
    places.iter().enumerate().filter_map(|(at, from)| token_source(&format!("{field}[{at}]"), from, problems)).collect()
}

fn token_source(field: &str, from: &TokenFrom, problems: &mut Problems) -> Option<TokenSource> {
    if from.scheme.is_some() && from.header.is_none() {
        problems.invalid(field, "scheme requires header");
    }
    match (&from.header, &from.query, &from.cookie, &from.web_socket_protocol) {
        (Some(header), None, None, None) => match fields::header_name(header) {
            Ok(header) => Some(TokenSource::Header { header, scheme: from.scheme.clone() }),
            Err(why) => {
                problems.invalid(&format!("{field}.header"), why);
                None
            }
        },
        (None, Some(query), None, None) => Some(TokenSource::Query { query: query.clone() }),
        (None, None, Some(cookie), None) => Some(TokenSource::Cookie { cookie: cookie.clone() }),
        (None, None, None, Some(prefix)) => {
            Some(TokenSource::WebSocketProtocol { web_socket_protocol: prefix.clone() })
        }
        _ => {
            problems.invalid(field, "exactly one of header, query, cookie and webSocketProtocol is required");
            None
        }
    }
}
