//! Field types that several kinds share: durations, sizes, rates. Patterns of texts are in `pattern`.

mod pattern;

use std::{borrow::Cow, fmt, str::FromStr, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use pattern::*;

/// Defines an enum of methods, with a value for all of them.
macro_rules! methods {
    ($(#[$of:meta])* $name:ident { $(#[$of_any:meta])* Any = $any:literal } $(#[$of_text:meta])*) => {
        $(#[$of])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        #[serde(rename_all = "UPPERCASE")]
        pub enum $name {
            $(#[$of_any])*
            #[serde(rename = $any)]
            Any,
            /// GET.
            Get,
            /// HEAD.
            Head,
            /// POST.
            Post,
            /// PUT.
            Put,
            /// PATCH.
            Patch,
            /// DELETE.
            Delete,
            /// OPTIONS.
            Options,
        }

        impl $name {
            $(#[$of_text])*
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::Any => $any,
                    Self::Get => "GET",
                    Self::Head => "HEAD",
                    Self::Post => "POST",
                    Self::Put => "PUT",
                    Self::Patch => "PATCH",
                    Self::Delete => "DELETE",
                    Self::Options => "OPTIONS",
                }
            }
        }
    };
}
pub(crate) use methods;

/// A duration as Gateway API writes it (GEP-2257).
pub(crate) const DURATION_PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
const DURATION_MAX_PARTS: usize = 4;
const DURATION_MAX_DIGITS: usize = 5;
const DURATION_MAX_LENGTH: usize = DURATION_MAX_PARTS * (DURATION_MAX_DIGITS + 2);
/// No text that matches it exceeds [`BYTES_MAX`].
pub(crate) const BYTES_PATTERN: &str =
    "^([1-9][0-9]{0,14}|[1-9][0-9]{0,11}(Ki|k)|[1-9][0-9]{0,8}(Mi|M)|[1-9][0-9]{0,5}(Gi|G))$";
const BYTES_MAX: u64 = 1 << 50;

/// A duration in the format of Gateway API (GEP-2257): `500ms`, `30s`, `5m`, `1h30m`. It has one to four parts, each a
/// number of at most five digits and one of the units h, m, s and ms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

/// Why a text is not a [`Duration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} is not a duration: {hint}")]
pub struct DurationError {
    text: String,
    hint: String,
}

impl DurationError {
    fn new(text: String) -> Self {
        let number = text.trim_matches('"');
        let bare = (1..=DURATION_MAX_DIGITS).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        let hint = if bare {
            format!("it needs a unit; write {number}s for {number} seconds")
        } else {
            "write whole numbers of at most five digits with the units h, m, s or ms, for example 30s or 1h30m"
                .to_owned()
        };
        Self { text, hint }
    }
}

impl Duration {
    /// A duration of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// A duration of whole milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(time::Duration::from_millis(milliseconds))
    }

    /// The standard library's duration.
    #[must_use]
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

impl From<Duration> for time::Duration {
    fn from(value: Duration) -> Self {
        value.0
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DurationError::new(format!("{:?}", text.chars().take(64).collect::<String>()));
        let mut rest = text;
        let mut total: u64 = 0;
        for part in 0.. {
            if rest.is_empty() && part > 0 {
                break;
            }
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if part == DURATION_MAX_PARTS || digits > DURATION_MAX_DIGITS {
                return Err(error());
            }
            let (number, after) = rest.split_at_checked(digits).ok_or_else(error)?;
            let number: u64 = number.parse().map_err(|_| error())?;
            let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
            let (unit, after) = after.split_at_checked(letters).ok_or_else(error)?;
            let scale = match unit {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => return Err(error()),
            };
            // Four parts of five digits: no sum overflows.
            total += number * scale;
            rest = after;
        }
        Ok(Self::from_millis(total))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (scale, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
            let count = rest / scale;
            rest %= scale;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 30s or 1h30m")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
                Err(E::custom(DurationError::new(number.to_string())))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Duration, E> {
                Err(E::custom(DurationError::new(number.to_string())))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Duration, E> {
                Err(E::custom(DurationError::new(number.to_string())))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "maxLength": DURATION_MAX_LENGTH,
            "pattern": DURATION_PATTERN,
        })
    }
}

/// A size in bytes as a Kubernetes quantity: `64Mi`, `1G`, or a plain number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size: write a whole number with the unit Ki, Mi, Gi, k, M or G, for example 64Mi")]
pub struct BytesError {
    text: String,
}

impl Bytes {
    /// A size of this many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || BytesError { text: text.chars().take(64).collect() };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or_else(error)?;
        let number: u64 = number.parse().map_err(|_| error())?;
        let scale = match unit {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(error()),
        };
        number.checked_mul(scale).filter(|bytes| *bytes <= BYTES_MAX).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_u64 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        match units.into_iter().find(|(scale, _)| self.0 > 0 && self.0.is_multiple_of(*scale)) {
            Some((scale, unit)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 64Mi, or a number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Bytes, E> {
                if bytes <= BYTES_MAX { Ok(Bytes(bytes)) } else { Err(E::custom("a size is at most 2^50 bytes")) }
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Bytes, E> {
                u64::try_from(bytes).map_err(|_| E::custom("a size is never negative")).and_then(|b| self.visit_u64(b))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 16,
            "pattern": BYTES_PATTERN,
            "minimum": 1,
            "maximum": BYTES_MAX,
        })
    }
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The name, which is not case-sensitive. At most 64 characters. Example: `x-customer`.
    #[schemars(length(min = 1, max = 64), regex(pattern = HEADER_NAME))]
    pub name: String,
    /// The value: printable ASCII characters, spaces and tabs. At most 4096 characters. Example: `no-store`.
    #[schemars(length(max = 4096), regex(pattern = HEADER_VALUE))]
    pub value: String,
}

/// The schema of a list of headers: each name once. The number of headers and the length of a name are as large as the API
/// server's cost budget for the rule allows, which is divided by the number of rules of an ApiRoute.
pub(crate) fn unique_headers(schema: &mut Schema) {
    schema.insert("maxItems".to_owned(), 16.into());
    schema.insert("x-kubernetes-list-type".to_owned(), "atomic".into());
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        serde_json::json!([{
            "rule": "self.all(x, self.exists_one(y, x.name.lowerAscii() == y.name.lowerAscii()))",
            "message": "each header may be listed once; names are not case-sensitive"
        }]),
    );
}

/// A rate limit: a token bucket of `burst` tokens that gains `rate` tokens in each period. A request takes one
/// token; without a token it is rejected with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Throttle {
    /// The number of requests allowed in each period. From 1 to 1000000. Example: `100`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rate: u32,
    /// The length of the period, for rates below one request per second: `rate: 1` with `per: 1h` allows one request an
    /// hour. Unset: `1s`. From `1s` to `24h`. Example: `1m`.
    #[serde(default = "default_per")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1s') && duration(self) <= duration('24h')",
        "message": "per must be from 1s to 24h"
    }]))]
    pub per: Duration,
    /// The number of requests that may arrive at once before the rate applies: the size of the bucket.
    /// From 1 to 1000000. Example: `200`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

pub(crate) const fn default_per() -> Duration {
    Duration::from_secs(1)
}

/// Whether an API key is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum ApiKeyRequirement {
    /// A request without a valid API key of a plan of the stage is rejected with 403.
    Required,
    /// A request without an API key is served, as one with a valid key; another key is rejected with 403.
    Optional,
    /// A valid API key is accepted instead of the credential that `authorization` requires; another key is rejected with 403.
    Alternative,
    /// No API key is required, and none is read.
    #[default]
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_what_it_prints() {
        for (text, millis) in
            [("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000), ("50ms", 50), ("1m500ms", 60_500)]
        {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(duration.to_string(), text);
            assert_eq!(serde_json::to_value(duration).unwrap(), serde_json::json!(text));
        }
        assert_eq!("0s".parse::<Duration>().unwrap().to_string(), "0s");
        assert_eq!("90s".parse::<Duration>().unwrap().to_string(), "1m30s");
    }

    #[test]
    fn what_gep_2257_does_not_allow_is_not_a_duration() {
        for text in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "+1s",
            "5 m",
            "1d",
            "100000s",
            "5µs",
            "5us",
            "1h1m1s1ms1s",
            "1H",
            "1s ",
            "ms",
            "1e3s",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text:?}");
        }
        assert_eq!("99999h99999m99999s99999ms".parse::<Duration>().unwrap().get().as_millis(), 366_096_438_999);
        // The order of units is free, as in GEP-2257.
        assert_eq!("1s1h".parse::<Duration>().unwrap().to_string(), "1h1s");
    }

    #[test]
    fn a_number_without_a_unit_is_reported_with_an_example() {
        for number in [serde_json::json!(30), serde_json::json!("30")] {
            let error = serde_json::from_value::<Duration>(number).unwrap_err().to_string();
            assert!(error.contains("it needs a unit; write 30s for 30 seconds"), "{error}");
        }
        let error = serde_json::from_value::<Duration>(serde_json::json!(1.5)).unwrap_err().to_string();
        assert!(error.contains("for example 30s or 1h30m"), "{error}");
    }

    #[test]
    fn a_size_reads_quantities_and_numbers() {
        for (text, bytes, canonical) in [
            ("64Mi", 64 << 20, "64Mi"),
            ("1G", 1_000_000_000, "1000000000"),
            ("1024", 1024, "1Ki"),
            ("5k", 5000, "5000"),
            ("0", 0, "0"),
        ] {
            let size: Bytes = text.parse().unwrap();
            assert_eq!(size.get(), bytes, "{text}");
            assert_eq!(size.to_string(), canonical);
        }
        assert_eq!(serde_json::from_value::<Bytes>(serde_json::json!(4096)).unwrap(), Bytes::new(4096));
    }

    #[test]
    fn a_size_rejects_fractions_negatives_and_huge_values() {
        for text in ["", "Mi", "1.5Gi", "-1", "64 Mi", "64MB", "999999999999Gi"] {
            assert!(text.parse::<Bytes>().is_err(), "{text:?}");
        }
        assert!(serde_json::from_value::<Bytes>(serde_json::json!(-1)).is_err());
        assert!(serde_json::from_value::<Bytes>(serde_json::json!(u64::MAX)).is_err());
    }
}
