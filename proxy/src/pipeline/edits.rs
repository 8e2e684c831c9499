//! A rule's edits of request and response headers.

use http::{HeaderMap, HeaderName};

use crate::gateway::Edits;
use crate::template::Variables;

/// Applies a rule's edits. A header that the rule sets or removes loses every other spelling of its name, so that a caller
/// cannot send a second one that the backend takes for the first.
pub(crate) fn apply(headers: &mut HeaderMap, edits: Option<&Edits>, variables: &impl Variables) {
    let Some(edits) = edits else { return };
    for name in &edits.remove {
        headers.remove(name);
        remove_aliases(headers, name);
    }
    for (name, value) in &edits.set {
        let value = value.render(variables);
        remove_aliases(headers, name);
        headers.insert(name.clone(), value);
    }
    for (name, value) in &edits.add {
        headers.append(name.clone(), value.render(variables));
    }
}

/// Removes other spellings of a name that a server might take for the same header.
pub(super) fn remove_aliases(headers: &mut HeaderMap, name: &HeaderName) {
    let same = |other: &HeaderName| {
        let plain = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
        other.as_str().len() == name.as_str().len()
            && other != name
            && other.as_str().bytes().map(plain).eq(name.as_str().bytes().map(plain))
    };
    let aliases: Vec<HeaderName> = headers.keys().filter(|other| same(other)).cloned().collect();
    for alias in aliases {
        headers.remove(alias);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn other_spellings_of_a_set_header_are_removed() {
        let mut headers = HeaderMap::new();
        for name in ["x-user.id", "x_user_id", "x-user-id", "x-user-idx"] {
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("evil"));
        }
        remove_aliases(&mut headers, &HeaderName::from_static("x-user-id"));
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-user-id", "x-user-idx"]);
    }
}
