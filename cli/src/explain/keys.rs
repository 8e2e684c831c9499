//! The values of API keys: they are inserted in the request, and hidden in what is printed.

use std::fmt::Write as _;

use anyhow::Context as _;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::ObjectKey;

use crate::dev::local::key_text;

/// How a value is referred to, in arguments and in the output: `{apiKey:NAMESPACE/NAME}`.
const START: &str = "{apiKey:";
/// Shorter values are not valid keys. In the output they would be found in other words.
const MIN_LENGTH: usize = 20;

/// The API keys of the manifests, with their values.
pub(super) struct Keys {
    /// The longest first: one can begin with another.
    known: Vec<(String, ObjectKey)>,
}

impl Keys {
    pub(super) fn of(cluster: &ClusterState) -> Self {
        let keys = cluster.api_keys.keys();
        let mut known: Vec<_> = keys.filter_map(|key| Some((value(cluster, key)?, key.clone()))).collect();
        known.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Self { known }
    }

    /// Replaces references by the values.
    pub(super) fn insert(&self, text: &str) -> anyhow::Result<String> {
        self.insert_as(text, str::to_owned)
    }

    /// The same in a URL: the values cannot end its host, path or query.
    pub(super) fn insert_in_url(&self, text: &str) -> anyhow::Result<String> {
        self.insert_as(text, percent_encoded)
    }

    fn insert_as(&self, text: &str, form: impl Fn(&str) -> String) -> anyhow::Result<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(START) {
            let (name, after) = after.split_once('}').context("{apiKey: has no }")?;
            let key = object(name)?;
            let found = self.known.iter().find(|(_, known)| *known == key);
            let (value, _) = found.with_context(|| format!("the value of ApiKey {name} is not known"))?;
            out.push_str(before);
            out.push_str(&form(value));
            rest = after;
        }
        Ok(out + rest)
    }

    /// Replaces values by references.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let known = self.known.iter().filter(|(value, _)| value.len() >= MIN_LENGTH);
            let found = known.filter_map(|(value, key)| Some((after(rest, value)?, key))).next();
            rest = match found {
                Some((after, key)) => {
                    // A String can always be written to.
                    let _ = write!(out, "{START}{key}}}");
                    after
                }
                None => {
                    out.push(first);
                    rest.get(first.len_utf8()..).unwrap_or_default()
                }
            };
        }
        out
    }

    /// Replaces values by references in all strings of a JSON text that has one string in each line. Names of fields stay.
    pub(super) fn hide_in_json(&self, text: &str) -> String {
        let mut out = String::new();
        for line in text.lines() {
            let (name, value) = field(line).unwrap_or(("", line));
            out.push_str(name);
            out.push_str(&self.hide(value));
            out.push('\n');
        }
        out
    }
}

/// `NAMESPACE/NAME`.
pub(super) fn object(text: &str) -> anyhow::Result<ObjectKey> {
    let (namespace, name) = text.split_once('/').with_context(|| format!("{text:?}: write NAMESPACE/NAME"))?;
    Ok(ObjectKey::new(namespace, name))
}

/// The value of an ApiKey, as the operator reads it.
fn value(cluster: &ClusterState, key: &ObjectKey) -> Option<String> {
    let text = key_text(cluster, key)?;
    let value = text.trim_end_matches(['\r', '\n']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// The name of a field with its quotes and the colon, and what follows.
fn field(line: &str) -> Option<(&str, &str)> {
    let name = line.trim_start().strip_prefix('"')?;
    let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))?;
    name.get(end..)?.starts_with("\": ").then(|| line.split_at(line.len() - name.len() + end + 3))
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// What follows a value at the beginning of a text. The value can be in other letters (hosts are in lower case), and its characters
/// can be percent-encoded (in URLs) or have a backslash before them (in JSON and in errors).
fn after<'t>(text: &'t str, value: &str) -> Option<&'t str> {
    let mut rest = text;
    for wanted in value.chars() {
        let is_wanted = |c: char| c.eq_ignore_ascii_case(&wanted);
        rest = rest.strip_prefix(is_wanted).or_else(|| rest.strip_prefix('\\')?.strip_prefix(is_wanted)).or_else(
            || {
                let code = rest.strip_prefix('%')?;
                let byte = u8::from_str_radix(code.get(..2)?, 16).ok()?;
                is_wanted(char::from(byte)).then(|| code.get(2..)).flatten()
            },
        )?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "Key/of\"Acme\\0123456789";

    fn keys() -> Keys {
        Keys { known: vec![(VALUE.to_owned(), ObjectKey::new("shop", "acme"))] }
    }

    #[test]
    fn a_value_is_inserted_as_it_is_and_encoded_in_a_url() {
        let keys = keys();
        assert_eq!(keys.insert("ApiKey {apiKey:shop/acme}.").unwrap(), format!("ApiKey {VALUE}."));
        let url = keys.insert_in_url("http://a/?key={apiKey:shop/acme}#x").unwrap();
        assert_eq!(url, "http://a/?key=Key%2Fof%22Acme%5C0123456789#x");
        assert!(keys.insert("{apiKey:shop/other}").is_err() && keys.insert("{apiKey:shop/acme").is_err());
    }

    #[test]
    fn a_value_is_hidden_in_each_form_that_it_can_have() {
        let keys = keys();
        for text in [
            VALUE.to_owned(),
            VALUE.to_ascii_lowercase(),
            percent_encoded(VALUE),
            percent_encoded(VALUE).to_ascii_lowercase(),
            format!("{VALUE:?}").trim_matches('"').to_owned(),
        ] {
            assert_eq!(
                keys.hide(&format!("ä {text}{text}, 100%")),
                "ä {apiKey:shop/acme}{apiKey:shop/acme}, 100%",
                "{text}"
            );
        }
        assert_eq!(keys.hide("Key/of and % and %2"), "Key/of and % and %2");
    }

    #[test]
    fn names_of_json_fields_stay() {
        let keys = Keys { known: vec![("clientCertificateOfAcme".to_owned(), ObjectKey::new("shop", "acme"))] };
        let json =
            serde_json::json!({"clientCertificateOfAcme": ["clientCertificateOfAcme", "a\": clientCertificateOfAcme"]});
        let hidden = keys.hide_in_json(&serde_json::to_string_pretty(&json).unwrap());
        let expected =
            serde_json::json!({"clientCertificateOfAcme": ["{apiKey:shop/acme}", "a\": {apiKey:shop/acme}"]});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&hidden).unwrap(), expected);
    }
}
