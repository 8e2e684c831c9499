//! Reads files with signed requests: see the comment at the beginning of one.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sluice_sigv4::{Options, RequestParts};

/// A signed request and its canonical request.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) options: Options,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) canonical: String,
}

impl Case {
    pub(crate) fn request(&self) -> RequestParts<'_> {
        RequestParts {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            host: None,
        }
    }
}

/// The cases of a file.
pub(crate) fn read(file: &str) -> Vec<Case> {
    let mut sections = file.split("\n=== ");
    assert!(sections.next().unwrap().starts_with('#'), "a comment");
    sections.map(case).collect()
}

fn case(section: &str) -> Case {
    let (name, rest) = section.split_once('\n').unwrap();
    let (request, canonical) = rest.split_once("\n--- canonical\n").unwrap();
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    // HTTP has no folded lines any more (RFC 9112, section 5.2): what receives them replaces them with spaces.
    let head = head.replace("\n ", " ");
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let target = target.strip_suffix(" HTTP/1.1").unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let value = HeaderValue::from_bytes(value.trim_ascii().as_bytes()).unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    Case {
        name: name.to_owned(),
        options: options(name),
        method: method.parse().unwrap(),
        path: path.to_owned(),
        query,
        headers,
        body: body.to_owned(),
        canonical: canonical.trim_end_matches('\n').to_owned(),
    }
}

fn options(name: &str) -> Options {
    let has = |word: &str| name.split(' ').any(|part| part == word);
    Options {
        double_encode: has("execute-api"),
        normalize: !has("as-is"),
        unsigned_session_token: has("unsigned-token"),
    }
}
