//! Times in expressions: `timestamp`, `duration`, and the parts of a time.

use std::time::SystemTime;

use cel::extractors::{Arguments, This};
use cel::{Context, ExecutionError, Value};
use chrono::{DateTime, Datelike as _, FixedOffset, TimeDelta, Timelike as _};

use crate::error::EvaluationError;

/// The longest text of a time or duration.
const MAX_TEXT: usize = 64;
const SECOND: i128 = 1_000_000_000;
/// The units of a duration, in nanoseconds; longer names first.
const UNITS: [(&str, i128); 6] =
    [("ms", 1_000_000), ("us", 1000), ("ns", 1), ("h", 3600 * SECOND), ("m", 60 * SECOND), ("s", SECOND)];

/// A part of a time or of a duration.
type Part<T> = fn(&T) -> i64;

/// The parts of a time, in a zone.
const OF_TIMESTAMP: [(&str, Part<DateTime<FixedOffset>>); 10] = [
    ("getFullYear", |time| time.year().into()),
    ("getMonth", |time| time.month0().into()),
    ("getDate", |time| time.day().into()),
    ("getDayOfMonth", |time| time.day0().into()),
    ("getDayOfWeek", |time| time.weekday().num_days_from_sunday().into()),
    ("getDayOfYear", |time| time.ordinal0().into()),
    ("getHours", |time| time.hour().into()),
    ("getMinutes", |time| time.minute().into()),
    ("getSeconds", |time| time.second().into()),
    ("getMilliseconds", |time| time.timestamp_subsec_millis().into()),
];

/// A duration in whole units.
const OF_DURATION: [(&str, Part<TimeDelta>); 4] = [
    ("getHours", TimeDelta::num_hours),
    ("getMinutes", TimeDelta::num_minutes),
    ("getSeconds", TimeDelta::num_seconds),
    ("getMilliseconds", |time| time.subsec_nanos().wrapping_div(1_000_000).into()),
];

/// Whether a function is about a time.
pub(crate) fn is_of_timestamp(name: &str) -> bool {
    OF_TIMESTAMP.iter().any(|(known, _)| *known == name)
}

/// Whether a function is about a duration.
pub(crate) fn is_of_duration(name: &str) -> bool {
    OF_DURATION.iter().any(|(known, _)| *known == name)
}

/// The time of a request.
///
/// # Errors
/// It cannot be represented.
pub fn time(now: SystemTime) -> Result<Value, EvaluationError> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| EvaluationError::BadValue)?;
    let seconds = i64::try_from(since.as_secs()).ok();
    let time = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, since.subsec_nanos()));
    Ok(Value::Timestamp(time.ok_or(EvaluationError::BadValue)?.fixed_offset()))
}

/// The time in a text (RFC 3339).
pub(crate) fn parse_timestamp(text: &str) -> Option<DateTime<FixedOffset>> {
    let time = DateTime::parse_from_rfc3339(text).ok().filter(|_| text.len() <= MAX_TEXT)?;
    (1..=9999).contains(&time.to_utc().year()).then_some(time)
}

/// The duration in a text, such as `1h30m` or `-1.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<TimeDelta> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if rest == "0" {
        return Some(TimeDelta::zero());
    }
    if rest.is_empty() || text.len() > MAX_TEXT {
        return None;
    }
    let mut nanos = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let (name, unit) = UNITS.iter().find(|(name, _)| after.starts_with(name))?;
        rest = after.get(name.len()..)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = fraction.parse::<u64>().ok().filter(|_| fraction.len() <= 9)?;
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        nanos += i128::from(whole.parse::<u64>().ok()?) * unit + i128::from(digits) * unit / scale;
    }
    Some(TimeDelta::nanoseconds(i64::try_from(sign * nanos).ok()?))
}

/// The zone in a text: `UTC`, or an offset such as `+02:00`.
pub(crate) fn parse_zone(text: &str) -> Option<FixedOffset> {
    if text == "UTC" {
        return FixedOffset::east_opt(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let digits = |text: &str| text.parse::<u8>().ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) =
        (digits(hours).filter(|hours| *hours < 24)?, digits(minutes).filter(|minutes| *minutes < 60)?);
    FixedOffset::east_opt(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60))
}

fn failed(function: &str) -> ExecutionError {
    // Without the value, which is of the request.
    ExecutionError::function_error(function, "not valid")
}

/// A time in a text, or in seconds since 1970, as tokens have it.
fn timestamp(of: Value) -> Result<Value, ExecutionError> {
    let time = match &of {
        Value::String(text) => parse_timestamp(text),
        Value::Int(seconds) => DateTime::from_timestamp(*seconds, 0)
            .filter(|time| (1..=9999).contains(&time.year()))
            .map(|time| time.fixed_offset()),
        _ => None,
    };
    Ok(Value::Timestamp(time.ok_or_else(|| failed("timestamp"))?))
}

fn duration(text: std::sync::Arc<String>) -> Result<Value, ExecutionError> {
    Ok(Value::Duration(parse_duration(&text).ok_or_else(|| failed("duration"))?))
}

/// Adds the functions.
pub(crate) fn add(context: &mut Context<'static>) {
    context.add_function("timestamp", timestamp);
    context.add_function("duration", duration);
    for (name, get) in OF_TIMESTAMP {
        let of_duration = OF_DURATION.iter().find(|(known, _)| *known == name).map(|(_, get)| *get);
        let function = move |This(of): This<Value>, Arguments(arguments): Arguments| -> Result<i64, ExecutionError> {
            match (&of, arguments.as_slice(), of_duration) {
                (Value::Timestamp(time), [], _) => Ok(get(&time.to_utc().fixed_offset())),
                (Value::Timestamp(time), [Value::String(zone)], _) => {
                    // The years of a time are far from the limits of the library, which no zone exceeds.
                    Ok(get(&time.with_timezone(&parse_zone(zone).ok_or_else(|| failed(name))?)))
                }
                (Value::Duration(time), [], Some(get)) => Ok(get(time)),
                _ => Err(failed(name)),
            }
        };
        context.add_function(name, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("1s", Some(1_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("-1.5h", Some(-5_400_000_000_000)),
            ("250ms", Some(250_000_000)),
            ("1us2ns", Some(1002)),
            ("0.000000001s", Some(1)),
            ("", None),
            ("-", None),
            ("1", None),
            ("h", None),
            ("1d", None),
            ("1s ", None),
            ("1s!", None),
            ("+1s", None),
            ("1.s", None),
            (".5s", None),
            ("1.2.3s", None),
            ("99999999999h", None),
            ("18446744073709551616s", None),
        ] {
            let found = parse_duration(text).and_then(|duration| duration.num_nanoseconds());
            assert_eq!(found, nanos, "{text:?}");
        }
    }

    #[test]
    fn zones_are_offsets() {
        for (text, seconds) in [
            ("UTC", Some(0)),
            ("+00:00", Some(0)),
            ("+02:00", Some(7200)),
            ("-03:30", Some(-12_600)),
            ("+23:59", Some(86_340)),
            ("+24:00", None),
            ("+2:00", None),
            ("02:00", None),
            ("+02", None),
            ("++1:00", None),
            ("Europe/Berlin", None),
            ("", None),
            ("ä", None),
        ] {
            assert_eq!(parse_zone(text).map(|zone| zone.local_minus_utc()), seconds, "{text:?}");
        }
    }
}
