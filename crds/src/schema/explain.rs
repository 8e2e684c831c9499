//! Descriptions of what a schema requires: types, patterns, examples, and the name that was probably meant.

use serde_json::Value;

use crate::{condition, field};

/// A type as people call it.
pub(super) fn type_name(type_: &str) -> &'static str {
    match type_ {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "an integer or a string",
    }
}

/// A value as people see it; long ones are cut.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) if text.chars().count() > 60 => {
            format!("{:?}…", text.chars().take(60).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// `a, b or c`.
pub(super) fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}

/// The example in a field's documentation, as a sentence.
pub(super) fn example(schema: &Value) -> Option<String> {
    let description = schema.get("description")?.as_str()?;
    let (_, example) = description.rsplit_once("Example: `")?;
    let (example, _) = example.rsplit_once("`.")?;
    Some(format!("Example: {example}."))
}

/// The example of a field, or what a text must look like where the field has none.
pub(super) fn format(schema: &Value) -> Option<String> {
    let sentence = || {
        let sentence = pattern(schema.get("pattern")?.as_str()?);
        let mut chars = sentence.chars();
        let first = chars.next()?;
        Some(format!("{}{}.", first.to_uppercase(), chars.as_str()))
    };
    let allowed = || {
        let names: Vec<&str> = schema.get("enum")?.as_array()?.iter().filter_map(Value::as_str).collect();
        Some(format!("It must be one of {}.", list(&names)))
    };
    allowed().or_else(|| example_of(schema)).or_else(sentence)
}

/// The example in a field's documentation; without one, the example of its pattern.
pub(super) fn example_of(schema: &Value) -> Option<String> {
    let of_pattern = || {
        let (_, example) = known(schema.get("pattern")?.as_str()?)?;
        (!example.is_empty()).then(|| format!("Example: {example}."))
    };
    example(schema).or_else(of_pattern)
}

/// What a text must look like, for the patterns of our schemas.
pub(super) fn pattern(pattern: &str) -> String {
    match known(pattern) {
        Some((sentence, _)) => sentence.to_owned(),
        None => format!("it must match the pattern {pattern}"),
    }
}

/// The sentence about a pattern, and an example that it accepts; empty where the sentence has one.
pub(super) fn known(pattern: &str) -> Option<(&'static str, &'static str)> {
    Some(match pattern {
        field::OBJECT_NAME => {
            ("a name has lower case letters, digits, - and ., and begins and ends with a letter or digit", "orders")
        }
        field::DNS_LABEL => (
            "a name here has lower case letters, digits and -, and begins and ends with a letter or digit",
            "get-order",
        ),
        field::HOSTNAME => (
            "a host name has lower case letters, digits, - and ., and only its first label may be *",
            "api.shop.example",
        ),
        field::HEADER_NAME | field::HEADER_NAME_OR_ANY => {
            ("a name here has letters, digits and the characters !#$%&'*+-.^_`|~, and no spaces", "x-channel")
        }
        field::HEADER_VALUE => ("a header's value has printable ASCII characters in one line", "no-store"),
        field::PATH_TEMPLATE => {
            ("a path begins with /, has no spaces, ? or #, and has parameters in braces", "/orders/{id}")
        }
        field::BASE_PATH => ("a base path begins with /, does not end with one, and has no empty segments", "/v1"),
        field::HTTP_URL => (
            "a URL here begins with http:// or https:// and has no user, query or fragment",
            "https://api.example.com/v2",
        ),
        field::URL_PATH => ("a path here begins with / and has no spaces, braces, query or fragment", "/authorize"),
        field::IAM_ARN => {
            ("the ARN of a Principal is that of an IAM user or role", "arn:aws:iam::111122223333:user/reporting")
        }
        field::AWS_SERVICE => ("a service here has lower-case letters, digits and hyphens", "execute-api"),
        field::DATA_KEY => ("a key has letters, digits, -, _ and .", "tls.crt"),
        field::DURATION_PATTERN => (
            "a duration has whole numbers of at most five digits with the units h, m, s or ms, such as 30s or 1h30m",
            "",
        ),
        field::BYTES_PATTERN => {
            ("a size is a whole number above 0 with the unit Ki, Mi, Gi, k, M or G, such as 64Mi", "")
        }
        field::SERVER_NAME => (
            "a name here is a host name in lower case or an IPv6 address, without a scheme, port or wildcard",
            "orders.shop.svc",
        ),
        field::NETWORK => (
            "a network is an IPv4 or IPv6 address and a prefix length, or one address; a host name is none",
            "10.0.0.0/8",
        ),
        field::ORIGIN => (
            "an origin is a scheme such as https://, a host and an optional port, without a path; *. before the host means each \
             host below it. Or it is *, http://*, https://* or null",
            "https://shop.example",
        ),
        field::VERSION_NAME => {
            ("a version has letters, digits, -, _ and ., and begins and ends with a letter or digit", "v1")
        }
        field::CACHE_KEY => (
            "a variable of a cache key begins with request.path., request.querystring., request.header. or context.",
            "request.querystring.page",
        ),
        field::SCOPE => {
            ("a scope has printable ASCII characters without spaces, double quotes and backslashes", "orders.read")
        }
        field::VISIBLE => ("it has printable ASCII characters and no spaces", "https://idp.example"),
        field::PRINTABLE => {
            ("it has printable ASCII characters and spaces, and does not begin or end with a space", "acme")
        }
        condition::REASON => {
            ("a reason has letters, digits and the characters _ , : and begins with a letter", "Accepted")
        }
        field::TOKEN_TYPE => ("a type of tokens has letters, digits and the characters ! # $ & ^ _ . + / -", "at+jwt"),
        field::REGION => ("a region has lower-case letters and digits in parts joined by hyphens", "eu-west-1"),
        field::USER_POOL => {
            ("the id of a user pool is its region, an underscore, and letters and digits", "eu-west-1_aBcDeFgHi")
        }
        field::FUNCTION_NAME => {
            ("the name or ARN of a function has letters, digits and the characters - _ . : $", "authorizer")
        }
        field::ACCOUNT => ("an account has 12 digits, in quotes", "111122223333"),
        field::TOKEN_SCHEME => ("a scheme has letters, digits and the characters . _ ~ + / -", "Bearer"),
        _ => return None,
    })
}

/// The candidate with the smallest edit distance to a misspelt name, if the distance is small.
#[must_use]
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if !(2..=64).contains(&length) {
        return None;
    }
    let budget = (length / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= budget)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters are added, taken, changed or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(128).collect();
    let b: Vec<char> = b.chars().take(128).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let changed = above[j] + usize::from(letter != other);
            let mut least = changed.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *other && b[j - 1] == *letter {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_letters() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
            ("prot", "port", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn similar_names_are_suggested_and_others_are_not() {
        let fields = ["methods", "path", "headers", "apiKey"];
        assert_eq!(closest("method", fields), Some("methods"));
        assert_eq!(closest("apikey", fields), Some("apiKey"));
        assert_eq!(closest("pth", fields), Some("path"));
        assert_eq!(closest("integration", fields), None);
        assert_eq!(closest("", fields), None);
    }

    #[test]
    fn an_example_comes_from_the_documentation() {
        let schema = serde_json::json!({"description": "Where. Unset: `/`. Example: `/orders/{id}`."});
        assert_eq!(example(&schema).as_deref(), Some("Example: /orders/{id}."));
        assert_eq!(example(&serde_json::json!({"description": "No example"})), None);
    }
}
