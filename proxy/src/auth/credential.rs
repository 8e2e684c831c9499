//! The credential of a request: where a token may be, and which place is used. Nothing is verified here; `pipeline` removes
//! what was not verified.

use std::borrow::Cow;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderName};
use sluice_wire::{TokenSource, Variable};

use super::token_error::TokenError;
use crate::headers;
use crate::template::Variables;

/// A longer token is rejected without parsing.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// A place where a request can carry a token.
#[derive(Debug)]
pub(super) enum Source {
    Header { name: HeaderName, scheme: Option<String> },
    Query(Variable),
    Cookie(String),
    WebSocketProtocol(String),
}

/// A place where a request can carry a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Header(&'a HeaderName),
    /// The name of a parameter.
    Query(&'a str),
    /// The name of a cookie.
    Cookie(&'a str),
    /// What the name of a subprotocol begins with.
    WebSocketProtocol(&'a str),
}

impl Source {
    pub(super) fn compile(part: &TokenSource) -> Option<Self> {
        Some(match part {
            TokenSource::Header { header, scheme } => {
                let name = HeaderName::from_bytes(header.as_bytes()).ok()?;
                Self::Header { name, scheme: scheme.clone() }
            }
            TokenSource::Query { query } => Self::Query(Variable::QueryParameter(Cow::Owned(query.clone()))),
            TokenSource::Cookie { cookie } => Self::Cookie(cookie.clone()),
            TokenSource::WebSocketProtocol { web_socket_protocol } => {
                // Without it, each subprotocol would be a token.
                Self::WebSocketProtocol(Some(web_socket_protocol.clone()).filter(|prefix| !prefix.is_empty())?)
            }
        })
    }

    pub(super) fn place(&self) -> Place<'_> {
        match self {
            Self::Header { name, .. } => Place::Header(name),
            Self::Query(Variable::QueryParameter(name)) => Place::Query(name),
            // No other variable is compiled.
            Self::Query(_) => Place::Query(""),
            Self::Cookie(name) => Place::Cookie(name),
            Self::WebSocketProtocol(prefix) => Place::WebSocketProtocol(prefix),
        }
    }
}

/// The token of a request and its place. The first place that has a token is used.
pub(super) fn find<'a, 's>(
    sources: &'s [Source],
    headers: &'a HeaderMap,
    variables: &dyn Variables,
) -> Result<(Cow<'a, str>, Place<'s>), TokenError> {
    for source in sources {
        let token = match source {
            Source::Header { name, scheme } => in_header(headers, name, scheme.as_deref())?.map(Cow::Borrowed),
            Source::Query(variable) => in_query(variables, variable)?.map(Cow::Owned),
            Source::Cookie(name) => only(headers::cookies(headers, name))?.map(Cow::Borrowed),
            Source::WebSocketProtocol(prefix) => in_protocols(headers, prefix)?.map(Cow::Borrowed),
        };
        let Some(token) = token.filter(|token| !token.is_empty()) else { continue };
        return if token.len() <= MAX_TOKEN_BYTES { Ok((token, source.place())) } else { Err(TokenError::TooLong) };
    }
    Err(TokenError::Missing)
}

/// The only value, as text. Of two, the backend might use the other one.
fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a str>, TokenError> {
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        // Not `to_str`, which checks each byte of a long token separately.
        (Some(value), None) => std::str::from_utf8(value).map(Some).map_err(|_| TokenError::Malformed),
        (Some(_), Some(_)) => Err(TokenError::Repeated),
    }
}

fn in_header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    scheme: Option<&str>,
) -> Result<Option<&'a str>, TokenError> {
    let values = headers.get_all(name).iter().map(|value| value.as_bytes());
    let Some(text) = only(values)?.map(str::trim_ascii) else { return Ok(None) };
    let Some(scheme) = scheme else { return Ok(Some(text)) };
    match text.split_once(' ') {
        Some((found, rest)) if found.eq_ignore_ascii_case(scheme) => Ok(Some(rest.trim_ascii())),
        None if text.eq_ignore_ascii_case(scheme) => Err(TokenError::Malformed),
        _ => Ok(None),
    }
}

fn in_query(variables: &dyn Variables, parameter: &Variable) -> Result<Option<String>, TokenError> {
    let (mut found, mut count) = (Vec::new(), 0);
    variables.each(parameter, &mut |value| {
        count += 1;
        if count == 1 {
            found = value.to_vec();
        }
    });
    match count {
        0 => Ok(None),
        1 => String::from_utf8(found).map(Some).map_err(|_| TokenError::Malformed),
        _ => Err(TokenError::Repeated),
    }
}

/// The token in the name of a subprotocol: a client offers several in one header, or in several.
fn in_protocols<'a>(headers: &'a HeaderMap, prefix: &str) -> Result<Option<&'a str>, TokenError> {
    let offered =
        headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let token = only(offered.filter_map(|name| name.trim_ascii().strip_prefix(prefix.as_bytes())))?;
    if token == Some("") { Err(TokenError::Malformed) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::template::Value;

    /// A query with the values of one parameter.
    struct Query(&'static [&'static str]);

    impl Variables for Query {
        fn get(&self, _: &Variable) -> Option<Value<'_>> {
            None
        }

        fn each(&self, variable: &Variable, take: &mut dyn FnMut(&[u8])) {
            if *variable == Variable::QueryParameter("access_token".into()) {
                self.0.iter().for_each(|value| take(value.as_bytes()));
            }
        }
    }

    #[test]
    fn a_token_is_found_in_its_place_only() {
        use TokenError::{Malformed, Missing, Repeated};
        const WS: &str = "sec-websocket-protocol";
        let query = || TokenSource::Query { query: "access_token".into() };
        let cookie = || TokenSource::Cookie { cookie: "session".into() };
        let protocol = || TokenSource::WebSocketProtocol { web_socket_protocol: "bearer.".into() };
        type Row = (
            TokenSource,
            &'static [&'static str],
            &'static [(&'static str, &'static str)],
            Result<&'static str, TokenError>,
        );
        let rows: Vec<Row> = vec![
            (query(), &["t"], &[], Ok("t")),
            (query(), &[""], &[], Err(Missing)),
            (query(), &["t", "t"], &[], Err(Repeated)),
            (query(), &["", "t"], &[], Err(Repeated)),
            (query(), &[], &[("cookie", "access_token=t")], Err(Missing)),
            (cookie(), &[], &[("cookie", "a=b; session=t; c")], Ok("t")),
            (cookie(), &[], &[("cookie", "a=b"), ("cookie", "session=\"t\"")], Ok("t")),
            (cookie(), &[], &[("cookie", "session=t;session=u")], Err(Repeated)),
            (cookie(), &[], &[("cookie", "session=t"), ("cookie", "session=t")], Err(Repeated)),
            (cookie(), &[], &[("cookie", "xsession=t; Session=t; session")], Err(Missing)),
            (protocol(), &[], &[(WS, "bearer.t, graphql-ws")], Ok("t")),
            (protocol(), &[], &[(WS, "graphql-ws"), (WS, "v2,bearer.t")], Ok("t")),
            (protocol(), &[], &[(WS, "bearer., graphql-ws")], Err(Malformed)),
            (protocol(), &[], &[(WS, "bearer.t, bearer.u")], Err(Repeated)),
            (protocol(), &[], &[(WS, "graphql-ws, Bearer.t, x-bearer.t")], Err(Missing)),
        ];
        for (source, values, fields, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let sources = [Source::compile(&source).unwrap()];
            let found = find(&sources, &headers, &Query(values));
            assert_eq!(
                found.as_ref().map(|(token, _)| &**token).map_err(|error| *error),
                expected,
                "{source:?} {fields:?}"
            );
        }
        assert!(Source::compile(&TokenSource::WebSocketProtocol { web_socket_protocol: String::new() }).is_none());
    }

    #[test]
    fn the_first_place_with_a_token_is_used() {
        let sources = [
            TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) },
            TokenSource::Query { query: "access_token".into() },
            TokenSource::Cookie { cookie: "session".into() },
        ];
        let sources: Vec<Source> = sources.iter().filter_map(Source::compile).collect();
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static("session=c"));
        let found = |headers: &HeaderMap, query| {
            let (token, place) = find(&sources, headers, &Query(query)).unwrap();
            (token.into_owned(), place)
        };
        assert_eq!(found(&headers, &["q"]), ("q".to_owned(), Place::Query("access_token")));
        assert_eq!(found(&headers, &[]), ("c".to_owned(), Place::Cookie("session")));
        headers.insert("authorization", HeaderValue::from_static("Bearer h"));
        let name = http::header::AUTHORIZATION;
        assert_eq!(found(&headers, &["q"]), ("h".to_owned(), Place::Header(&name)));
    }
}
