//! Parses plain scalars of YAML as `kubectl` does: with the booleans and numbers of YAML 1.1. A scalar that has another type
//! there than its author expects is rejected by the schema.

use serde_json::{Number, Value};

/// The value of a scalar; the error is a sentence.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Value, String> {
    match tag {
        Some("str") => return Ok(Value::String(text.to_owned())),
        None if !plain => return Ok(Value::String(text.to_owned())),
        _ => {}
    }
    let value = null_or_bool(text).or_else(|| number(text)).unwrap_or_else(|| Value::String(text.to_owned()));
    if matches!(text, ".nan" | ".NaN" | ".NAN") || text.trim_start_matches(['+', '-']).eq_ignore_ascii_case(".inf") {
        return Err(format!("{text} is not a number that a manifest can contain. Put it in quotes if it is a string."));
    }
    let fits = match tag {
        Some("int") => value.is_i64() || value.is_u64(),
        Some("float") => value.is_number(),
        Some("bool") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => true,
    };
    if fits { Ok(value) } else { Err(format!("{text:?} does not match its tag. Remove the tag.")) }
}

fn null_or_bool(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(Value::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Value::Bool(false))
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<Value> {
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    let digits = text.replace('_', "");
    integer(&digits).or_else(|| decimal(&digits))
}

/// Decimal, `0x`, `0o`, `0b`, and the octal of a leading zero.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.bytes().next()?.is_ascii_digit() {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.trim_start_matches('0'))
    } else {
        (10, lower.as_str())
    };
    let digits = if digits.is_empty() && radix == 8 { "0" } else { digits };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(Value::Number(magnitude.into()));
    }
    let value = i64::try_from(-i128::from(magnitude)).ok()?;
    Some(Value::Number(value.into()))
}

fn decimal(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let allowed = unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !allowed || !unsigned.bytes().any(|b| b.is_ascii_digit()) || unsigned.starts_with(['e', 'E', '+', '-']) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    Number::from_f64(value).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_are_read_as_by_kubectl() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("True", json!(true)),
            ("80", json!(80)),
            ("-1", json!(-1)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("017", json!(15)),
            ("0", json!(0)),
            ("1_000", json!(1000)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("1e3", json!(1000.0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
        ] {
            assert_eq!(resolve(text, true, None).unwrap(), value, "{text:?}");
        }
    }

    #[test]
    fn other_scalars_are_strings() {
        for text in
            ["30s", "1.2.3", "v1", "-", "a", "1e", "0x", "127.0.0.1", "2026-01-01", "--1", "+", ".", "1-2", "yEs", "e5"]
        {
            assert_eq!(resolve(text, true, None).unwrap(), json!(text), "{text:?}");
        }
        for text in ["80", "yes", "null", ""] {
            assert_eq!(resolve(text, false, None).unwrap(), json!(text));
            assert_eq!(resolve(text, true, Some("str")).unwrap(), json!(text));
        }
    }

    #[test]
    fn values_that_json_cannot_represent_are_rejected() {
        for text in [".inf", "-.INF", ".nan"] {
            assert!(resolve(text, true, None).is_err(), "{text}");
        }
        assert!(resolve("x", true, Some("int")).is_err());
        assert_eq!(resolve("7", false, Some("int")).unwrap(), json!(7));
    }
}
