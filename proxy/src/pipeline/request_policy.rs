//! Applies a Stage's policy for ambiguous requests. Most requests have nothing that it decides; for those that do, every later
//! step sees the result.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Uri};
use sluice_wire::{HeaderNames, HeaderValues, QueryCharacters, is_hop_by_hop, is_removed_from_requests};

use super::exchange::Exchange;
use crate::gateway::path::{Canonical, Traits};
use crate::gateway::router::{Miss, RouteInput};
use crate::gateway::{Gateway, Reduced, ResolvedPolicy, Rule, Stage, below, readings};
use crate::headers;
use crate::key;
use crate::reject::Reject;

/// What a request has that programs interpret in different ways.
#[derive(Clone, Copy, Default)]
pub(super) struct Unusual {
    pub(super) path: Traits,
    /// A header name with other characters than letters, digits and hyphens.
    pub(super) names: bool,
    /// A header value with characters outside ASCII.
    pub(super) values: bool,
}

/// The path of a request after the policy of its Stage was applied.
pub(super) struct Accepted {
    /// Canonical.
    pub(super) whole: Arc<str>,
    /// The form that is matched, where it is another one.
    pub(super) reduced: Option<Reduced>,
    /// Whether a program that decodes more than the proxy finds another path.
    decodable: bool,
}

/// Applies the policy to path, query and headers. None: nothing of them is unusual.
pub(super) fn apply(
    exchange: &mut Exchange,
    gateway: &Gateway,
    stage: &Arc<Stage>,
    parts: &mut Parts,
    unusual: Unusual,
) -> Result<Option<Box<Accepted>>, Reject> {
    let policy = &stage.request_policy;
    if policy.query_characters != QueryCharacters::Forward {
        query(policy, &mut parts.uri)?;
    }
    if unusual.names {
        names(policy.header_names, &mut parts.headers)?;
    }
    if unusual.values {
        values(policy.header_values, &mut parts.headers)?;
    }
    if unusual.path.is_plain() {
        return Ok(None);
    }
    let before = Canonical { text: exchange.path.as_ref().into(), traits: unusual.path };
    let Canonical { text, traits } = policy.path(before).map_err(|bad| Reject::Malformed(bad.0))?;
    let whole: Arc<str> = Arc::from(text.as_ref());
    let reduced = traits.is_reducible().then(|| Reduced::new(&whole));
    let matched = reduced.as_ref().map_or(&*whole, Reduced::text);
    if !Arc::ptr_eq(gateway.hosts.find(&exchange.host, matched).ok_or(Reject::NotFound)?, stage) {
        return Err(AMBIGUOUS);
    }
    exchange.path = whole.clone();
    Ok(Some(Box::new(Accepted { whole, reduced, decodable: traits.is_decodable() })))
}

const AMBIGUOUS: Reject = Reject::Malformed("Decoded once more, the path would be that of another rule.");

impl Accepted {
    /// Rejects a path that a program could read as the path of another rule, so that no spelling of a path bypasses the rule
    /// for it. A rule that gives the same access is as good, and a path that no rule matches needs none.
    pub(super) fn one_rule(
        &self,
        gateway: &Gateway,
        host: &str,
        stage: &Arc<Stage>,
        rule: &Arc<Rule>,
        input: &RouteInput<'_>,
    ) -> Result<(), Reject> {
        if !self.decodable {
            return Ok(());
        }
        for reading in readings(&self.whole).map_err(|bad| Reject::Malformed(bad.0))? {
            let of_stage = gateway.hosts.find(host, &reading).is_some_and(|found| Arc::ptr_eq(found, stage));
            let path = below(&reading, &stage.base).filter(|_| of_stage).ok_or(AMBIGUOUS)?;
            let input = RouteInput { path, ..*input };
            let same = match stage.router.find(&input) {
                Ok(found) => Arc::ptr_eq(found.rule, rule) || found.rule.gives_no_less_than(rule),
                Err(miss) => miss == Miss::Path,
            };
            if !same {
                return Err(AMBIGUOUS);
            }
        }
        Ok(())
    }
}

fn query(policy: &ResolvedPolicy, uri: &mut Uri) -> Result<(), Reject> {
    let Some(query) = uri.query() else { return Ok(()) };
    let Some(encoded) = policy.query(query).map_err(|bad| Reject::Malformed(bad.0))? else { return Ok(()) };
    let target = PathAndQuery::try_from(format!("{}?{encoded}", uri.path()));
    *uri = target
        .map(Uri::from)
        .map_err(|_| Reject::Malformed("The path or query has a character that must be percent-encoded."))?;
    Ok(())
}

fn names(policy: HeaderNames, headers: &mut HeaderMap) -> Result<(), Reject> {
    let unusual = headers.keys().filter(|name| !headers::is_usual(name.as_str()));
    let removed: Vec<HeaderName> = match policy {
        HeaderNames::Reject => {
            return Err(Reject::Malformed("Header names must have only letters, digits and hyphens."));
        }
        HeaderNames::Drop => unusual.cloned().collect(),
        HeaderNames::Forward => unusual.filter(|name| is_alias(name, headers)).cloned().collect(),
    };
    for name in removed {
        headers.remove(name);
    }
    Ok(())
}

/// Whether the name is another spelling of a header that the proxy reads, sets or removes, or of one that the request has as
/// well: CGI and similar interfaces treat both as the same header, so that the backend might take this one for the other.
fn is_alias(name: &HeaderName, headers: &HeaderMap) -> bool {
    let hyphens = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
    let spelling: Vec<u8> = name.as_str().bytes().map(hyphens).collect();
    let Ok(spelling) = HeaderName::from_bytes(&spelling) else { return true };
    headers.contains_key(&spelling)
        || [HOST, CONTENT_LENGTH, EXPECT, AUTHORIZATION, COOKIE, headers::CDN_LOOP].contains(&spelling)
        || spelling == key::API_KEY
        || is_removed_from_requests(spelling.as_str())
}

fn values(policy: HeaderValues, headers: &mut HeaderMap) -> Result<(), Reject> {
    let unusual = || headers.iter().filter(|(_, value)| !value.as_bytes().is_ascii()).map(|(name, _)| name);
    if unusual().any(|name| is_hop_by_hop(name.as_str()) || name == CONTENT_LENGTH || name == EXPECT) {
        return Err(Reject::Malformed("Headers that the proxy interprets must have only ASCII characters."));
    }
    let removed: Vec<HeaderName> = match policy {
        HeaderValues::Reject => {
            return Err(Reject::Malformed("Header values must have only printable ASCII characters."));
        }
        HeaderValues::Drop => unusual().cloned().collect(),
        HeaderValues::Forward => return Ok(()),
    };
    for name in removed {
        headers.remove(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn left(policy: HeaderNames, names: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("x"));
        }
        self::names(policy, &mut headers).unwrap();
        let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn an_alias_of_a_header_that_matters_is_never_forwarded() {
        let harmless = ["x-user", "x_trace", "x.shop!id"];
        assert_eq!(left(HeaderNames::Drop, &harmless), ["x-user"]);
        assert_eq!(left(HeaderNames::Forward, &harmless), ["x-user", "x.shop!id", "x_trace"]);
        for alias in [
            "x_forwarded_for",
            "x.forwarded-for",
            "x_real_ip",
            "content_length",
            "transfer_encoding",
            "x_api_key",
            "x-http-method_override",
            "cdn_loop",
            "proxy_authorization",
            "keep_alive",
            "x_user",
            "x.user",
        ] {
            assert_eq!(left(HeaderNames::Forward, &["x-user", alias]), ["x-user"], "{alias}");
        }
    }
}
