//! Parsers of fields that several kinds have: header names, URLs, matches, throttles, durations. Each returns the parsed
//! value, or adds a problem or returns a message.

use sluice_crds::api_route::{
    AuthorizeExpression, MAX_EXPRESSION, MAX_EXPRESSIONS, MAX_MESSAGE, MatchType, ValueMatch,
};
use sluice_crds::field;
use sluice_crds::source::Source;
use sluice_wire::{AuthorizeTerm, ClientThrottle, Cors, FieldMatch, HttpTarget, Network, Sources, Throttle};

use crate::problem::Problems;

/// A header's name in lower case.
pub(crate) fn header_name(name: &str) -> Result<String, String> {
    let parsed = http::HeaderName::from_bytes(name.as_bytes());
    parsed.map(|name| name.as_str().to_owned()).map_err(|_| format!("{name:?} is not a header name"))
}

/// A match, and what is wrong with it.
pub(crate) fn field_match(field: &ValueMatch, header: bool) -> Result<FieldMatch, String> {
    let name = if header { header_name(&field.name)? } else { field.name.clone() };
    match (field.type_, &field.value) {
        (MatchType::Exact, Some(value)) => Ok(FieldMatch { name, value: Some(value.clone()) }),
        (MatchType::Present, None) => Ok(FieldMatch { name, value: None }),
        _ => Err("type Exact requires a value, which is not allowed with type Present".to_owned()),
    }
}

/// Networks. With a problem, who may call is not known.
pub(crate) fn source(at: &str, source: &Source, problems: &mut Problems) -> Option<Sources> {
    if source.allow.is_empty() && source.deny.is_empty() {
        problems.invalid(at, "it requires a network in allow, deny or both");
        return None;
    }
    let mut networks = |name: &str, list: &[String]| {
        let mut parsed = Vec::new();
        for (n, text) in list.iter().enumerate() {
            match text.parse::<Network>() {
                Ok(network) => parsed.push(network),
                Err(why) => problems.invalid(&format!("{at}.{name}[{n}]"), why),
            }
        }
        (parsed.len() == list.len()).then_some(parsed)
    };
    let (allow, deny) = (networks("allow", &source.allow), networks("deny", &source.deny));
    Some(Sources { allow: allow?, deny: deny? })
}

const _: () =
    assert!(MAX_EXPRESSION == sluice_authorize::MAX_LENGTH, "schema and compiler accept the same expressions");

/// Expressions that authorize requests. With a problem, who may call is not known.
pub(crate) fn authorize(at: &str, list: &[AuthorizeExpression], problems: &mut Problems) -> Vec<AuthorizeTerm> {
    let mut terms = Vec::with_capacity(list.len());
    if list.len() > MAX_EXPRESSIONS {
        problems.invalid(at, format_args!("must have at most {MAX_EXPRESSIONS} expressions"));
        return terms;
    }
    for (n, AuthorizeExpression { expression, message }) in list.iter().enumerate() {
        if let Err(why) = sluice_authorize::Expression::compile(expression) {
            problems.invalid(&format!("{at}[{n}].expression"), why);
        }
        if message.as_ref().is_some_and(|message| message.chars().count() > MAX_MESSAGE) {
            problems.invalid(&format!("{at}[{n}].message"), format_args!("must have at most {MAX_MESSAGE} characters"));
        }
        terms.push(AuthorizeTerm { expression: expression.clone(), message: message.clone() });
    }
    terms
}

/// A throttle within its bounds.
pub(crate) fn throttle(at: &str, limit: field::Throttle, problems: &mut Problems) -> Option<Throttle> {
    let bounds = 1..=1_000_000;
    let per_ms = limit.per.get().as_millis();
    let rate = bounds.contains(&limit.rate);
    let per = (1000..=86_400_000).contains(&per_ms);
    let burst = bounds.contains(&limit.burst);
    if !rate {
        problems.invalid(&format!("{at}.rate"), "must be from 1 to 1000000 requests in each period");
    }
    if !per {
        problems.invalid(&format!("{at}.per"), "must be from 1s to 24h");
    }
    if !burst {
        problems.invalid(&format!("{at}.burst"), "must be from 1 to 1000000 requests");
    }
    let per_ms = u32::try_from(per_ms).ok()?;
    (rate && per && burst).then_some(Throttle { rate: limit.rate, per_ms, burst: limit.burst })
}

/// A throttle of each client within its bounds.
pub(crate) fn client_throttle(
    at: &str,
    limit: sluice_crds::client_throttle::ClientThrottle,
    problems: &mut Problems,
) -> Option<ClientThrottle> {
    let sluice_crds::client_throttle::ClientThrottle { rate, per, burst, ipv4_prefix, ipv6_prefix } = limit;
    let throttle = throttle(at, field::Throttle { rate, per, burst }, problems);
    let (ipv4, ipv6) = ((8..=32).contains(&ipv4_prefix), (16..=128).contains(&ipv6_prefix));
    if !ipv4 {
        problems.invalid(&format!("{at}.ipv4Prefix"), "must be from 8 to 32");
    }
    if !ipv6 {
        problems.invalid(&format!("{at}.ipv6Prefix"), "must be from 16 to 128");
    }
    throttle.filter(|_| ipv4 && ipv6).map(|throttle| ClientThrottle { throttle, ipv4_prefix, ipv6_prefix })
}

/// Cross-origin resource sharing.
pub(crate) fn cors(at: &str, settings: &sluice_crds::cors::Cors, problems: &mut Problems) -> Cors {
    let wild = ["*", "http://*", "https://*"];
    let any_origin = settings.allow_origins.iter().any(|origin| wild.contains(&origin.as_str()));
    if settings.allow_credentials && any_origin {
        let why = "cannot be combined with *, http://* or https://* in allowOrigins: list the origins or domains that may send \
                   credentials";
        problems.invalid(&format!("{at}.allowCredentials"), why);
    }
    let max_age_s = settings.max_age.map(|age| whole_seconds(&format!("{at}.maxAge"), age, problems));
    if max_age_s.is_some_and(|age| age > 86_400) {
        problems.invalid(&format!("{at}.maxAge"), "must be at most 24h");
    }
    let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
    Cors {
        allow_origins: settings.allow_origins.clone(),
        allow_methods: settings.allow_methods.iter().map(|method| method.as_str().to_owned()).collect(),
        allow_headers: lower(&settings.allow_headers),
        expose_headers: lower(&settings.expose_headers),
        allow_credentials: settings.allow_credentials && !any_origin,
        max_age_s,
    }
}

/// A time to keep responses for, in milliseconds.
pub(crate) fn cache_ttl(at: &str, ttl: field::Duration, problems: &mut Problems) -> Option<u64> {
    let ms = u64::try_from(ttl.get().as_millis()).unwrap_or(u64::MAX);
    if (1_000..=3_600_000).contains(&ms) {
        return Some(ms);
    }
    problems.invalid(at, "must be from 1s to 1h");
    None
}

/// A time that is written in whole seconds: a part of one would get lost.
pub(crate) fn whole_seconds(at: &str, time: field::Duration, problems: &mut Problems) -> u64 {
    if time.get().subsec_nanos() > 0 {
        problems.invalid(at, "must be whole seconds");
    }
    time.get().as_secs()
}

/// The names of the path parameters that a URL refers to.
pub(crate) fn placeholders(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.trim_end_matches('+'))
}

/// An absolute http or https URL, taken apart.
pub(crate) fn http_url(url: &str) -> Result<HttpTarget, String> {
    let bad = || {
        format!(
            "{url:?} is not a valid URL: use http or https, a host, and a path without query, for example https://api.example.com/v2/{{proxy}}"
        )
    };
    let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(bad()),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err("a URL must not have a user name or password".to_owned());
    }
    let authority: http::uri::Authority = authority.parse().map_err(|_| bad())?;
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None if authority.as_str() != authority.host() => return Err(bad()),
        None if tls => 443,
        None => 80,
    };
    let host = authority.host().to_ascii_lowercase();
    let path_char = |b: u8| b.is_ascii_graphic() && !b"\"#<>?\\^`|".contains(&b);
    if host.is_empty() || port == 0 || !path.bytes().all(path_char) || !balanced(path) {
        return Err(bad());
    }
    let path = Some(path).filter(|path| !path.is_empty()).map(str::to_owned);
    Ok(HttpTarget { tls, host, port, path })
}

/// Whether braces come in pairs that do not nest.
fn balanced(path: &str) -> bool {
    let mut open = false;
    for byte in path.bytes() {
        match (byte, open) {
            (b'{', false) => open = true,
            (b'}', true) => open = false,
            (b'{' | b'}', _) => return false,
            _ => {}
        }
    }
    !open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_and_invalid_ones_rejected() {
        let target = http_url("https://API.example.com/v2/{proxy}").unwrap();
        assert_eq!((target.tls, target.host.as_str(), target.port), (true, "api.example.com", 443));
        assert_eq!(target.path.as_deref(), Some("/v2/{proxy}"));
        assert_eq!(http_url("http://[::1]:8080").unwrap().port, 8080);
        assert_eq!(http_url("http://example.com").unwrap().path, None);
        for bad in [
            "",
            "ftp://a",
            "https://",
            "https:///x",
            "http://u:p@a/",
            "http://a:0",
            "http://a:99999",
            "http://a:",
            "http://a/?q",
            "http://a/#f",
            "http://a/{x",
            "http://a/x}",
            "http://a/{{x}}",
            "http://a b/",
        ] {
            assert!(http_url(bad).is_err(), "{bad}");
        }
    }
}
