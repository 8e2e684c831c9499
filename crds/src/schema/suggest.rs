//! What was probably meant by an invalid value. A suggestion is made only if the schema accepts it.

use std::str::FromStr as _;

use serde_json::Value;

use crate::field;

/// Units of time that people write, in milliseconds.
const TIME_UNITS: [(&[&str], u64); 6] = [
    (&["ms", "msec", "millis", "millisecond", "milliseconds"], 1),
    (&["s", "sec", "secs", "second", "seconds"], 1_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
    (&["w", "week", "weeks"], 604_800_000),
];

/// Units of size that people write, and how a quantity has them.
const SIZE_UNITS: [(&[&str], &str); 6] = [
    (&["kib", "ki"], "Ki"),
    (&["mib", "mi"], "Mi"),
    (&["gib", "gi"], "Gi"),
    (&["kb", "k"], "k"),
    (&["mb", "m"], "M"),
    (&["gb", "g"], "G"),
];

/// A number and the letters behind it.
fn split(text: &str) -> Option<(&str, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    (!number.is_empty()).then(|| (number, unit.trim().to_ascii_lowercase()))
}

/// A decimal number times `scale`, if that is a whole number.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits < 7)?;
    let part = 10_u64.checked_pow(digits)?;
    let value = format!("{whole}{fraction}").parse::<u64>().ok()?.checked_mul(scale)?;
    value.is_multiple_of(part).then(|| value / part)
}

/// The bounds of a duration in the validation rules of its schema.
fn duration_bounds(schema: &Value) -> (Option<field::Duration>, Option<field::Duration>) {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
    let rules: Vec<&str> = rules.filter_map(|rule| rule.get("rule")?.as_str()).collect();
    let bound = |operator: &str| {
        let begin = format!("duration(self) {operator} duration('");
        let rest = rules.iter().find_map(|rule| rule.split_once(&begin))?.1;
        field::Duration::from_str(rest.split_once('\'')?.0).ok()
    };
    (bound(">="), bound("<="))
}

/// The duration that was probably meant, as a sentence.
pub(super) fn duration(schema: &Value, found: &str) -> Option<String> {
    let (number, unit) = split(found)?;
    let (least, most) = duration_bounds(schema);
    let accepted = |duration: &field::Duration| {
        least.is_none_or(|least| *duration >= least) && most.is_none_or(|most| *duration <= most)
    };
    if unit.is_empty() {
        let forms = [("s", "seconds", 1_000), ("ms", "milliseconds", 1)];
        return forms.into_iter().find_map(|(unit, name, scale)| {
            let millis = scaled(number, scale)?;
            let meant = Some(field::Duration::from_millis(millis)).filter(accepted)?;
            let text =
                if number.contains('.') || number.len() > 5 { meant.to_string() } else { format!("{number}{unit}") };
            text.parse::<field::Duration>().ok()?;
            Some(format!("A duration needs a unit: write {text} for {number} {name}."))
        });
    }
    let (_, scale) = TIME_UNITS.iter().find(|(names, _)| names.contains(&unit.as_str()))?;
    let meant = Some(field::Duration::from_millis(scaled(number, *scale)?)).filter(accepted)?.to_string();
    meant.parse::<field::Duration>().ok().map(|_| format!("Write {meant}."))
}

/// The size that was probably meant, as a sentence.
pub(super) fn size(found: &str) -> Option<String> {
    let (number, unit) = split(found)?;
    let (_, unit) = SIZE_UNITS.iter().find(|(names, _)| names.contains(&unit.as_str()))?;
    let (scale, smaller) = match *unit {
        "Ki" => (1024, ""),
        "Mi" => (1024, "Ki"),
        "Gi" => (1024, "Mi"),
        "k" => (1000, ""),
        "M" => (1000, "k"),
        _ => (1000, "M"),
    };
    let meant = match scaled(number, 1) {
        Some(number) => format!("{number}{unit}"),
        None => format!("{}{smaller}", scaled(number, scale)?),
    };
    meant.parse::<field::Bytes>().ok().filter(|bytes| bytes.get() > 0).map(|_| format!("Write {meant}."))
}

/// Other spellings of a text that may have been meant, the most likely first.
pub(super) fn spellings(text: &str) -> Vec<String> {
    let trimmed = text.trim();
    let host = trimmed.rsplit_once("://").map_or(trimmed, |(_, rest)| rest);
    let host = host.split(['/', '?']).next().unwrap_or_default();
    let name = host.split(':').next().unwrap_or_default();
    let no_query = trimmed.split(['?', '#']).next().unwrap_or_default();
    let no_slash = no_query.trim_end_matches('/');
    let inner = trimmed.trim_start_matches("${").trim_start_matches('$').trim_matches(['{', '}']);
    let variable = inner
        .replace("request.query.", "request.querystring.")
        .replace("request.queryParams.", "request.querystring.")
        .replace("request.headers.", "request.header.")
        .replace("request.params.", "request.path.");
    let mut all = vec![
        trimmed.to_owned(),
        trimmed.trim_end_matches(':').to_owned(),
        trimmed.to_lowercase(),
        trimmed.to_lowercase().replace(['_', ' ', '.'], "-"),
        parameters(no_query),
        format!("/{}", parameters(no_query.trim_matches('/'))),
        no_query.to_owned(),
        no_slash.to_owned(),
        format!("/{}", no_slash.trim_start_matches('/')),
        name.to_lowercase(),
        format!("https://{no_slash}"),
        variable.clone(),
        format!("request.{}", variable.replace("query.", "querystring.").replace("headers.", "header.")),
        trimmed.replace(['\r', '\n'], " "),
        trimmed.replace(' ', "-"),
    ];
    all.retain(|other| other != text && !other.is_empty());
    all
}

/// A path with `<id>`, `[id]` and `<int:id>` written as `{id}`.
fn parameters(path: &str) -> String {
    let segment = |segment: &str| {
        let inner = [('<', '>'), ('[', ']')]
            .iter()
            .find_map(|(open, close)| segment.strip_prefix(*open).and_then(|rest| rest.strip_suffix(*close)));
        match inner {
            Some(inner) => match inner.strip_prefix("...") {
                Some(rest) => format!("{{{rest}+}}"),
                None => format!("{{{}}}", inner.rsplit(':').next().unwrap_or(inner)),
            },
            None => segment.to_owned(),
        }
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_duration_is_suggested_in_its_units_and_within_its_bounds() {
        let timeout = json!({"x-kubernetes-validations": [{
            "rule": "duration(self) >= duration('50ms') && duration(self) <= duration('300s')",
        }]});
        for (found, sentence) in [
            ("30", Some("A duration needs a unit: write 30s for 30 seconds.")),
            ("3000", Some("A duration needs a unit: write 3000ms for 3000 milliseconds.")),
            ("1.5", Some("A duration needs a unit: write 1s500ms for 1.5 seconds.")),
            ("5 min", Some("Write 5m.")),
            ("30sec", Some("Write 30s.")),
            ("0.5s", Some("Write 500ms.")),
            ("1.5 m", Some("Write 1m30s.")),
            ("2d", None),
            ("0", None),
            ("900000", None),
            ("soon", None),
            ("", None),
            ("1..5s", None),
        ] {
            assert_eq!(duration(&timeout, found).as_deref(), sentence, "{found}");
        }
        assert_eq!(duration(&json!({}), "2d").as_deref(), Some("Write 48h."));
        assert_eq!(duration(&json!({}), "0").as_deref(), Some("A duration needs a unit: write 0s for 0 seconds."));
    }

    #[test]
    fn a_size_is_suggested_as_a_quantity() {
        for (found, sentence) in [
            ("64MB", Some("Write 64M.")),
            ("64 MiB", Some("Write 64Mi.")),
            ("64mb", Some("Write 64M.")),
            ("1.5Gi", Some("Write 1536Mi.")),
            ("10kb", Some("Write 10k.")),
            ("0Mi", None),
            ("0.001Ki", None),
            ("many", None),
            ("1Ti", None),
        ] {
            assert_eq!(size(found).as_deref(), sentence, "{found}");
        }
    }
}
