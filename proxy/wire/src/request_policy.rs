//! What a proxy does with requests that two programs could interpret differently. The settings of a Stage, and those of a
//! fleet, which apply where the Stage has none.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSettingError {
    /// No `=`.
    #[error("{0:?} is not a setting: write NAME=VALUE, for example emptySegments=Collapse")]
    Shape(String),
    /// No setting has this name.
    #[error("there is no setting {name:?}: use one of {known}")]
    Name {
        /// What was written.
        name: String,
        /// The names of all settings.
        known: String,
    },
    /// The setting has no such value.
    #[error("{name} cannot be {value:?}: use one of {known}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What was written.
        value: String,
        /// The values of the setting.
        known: String,
    },
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])* $text:literal $field:ident: $type:ident {
        $($(#[doc = $of_value:literal])* $value:ident),* $(,)?
    })*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
            pub enum $type {
                $($(#[doc = $of_value])* $value,)*
            }

            impl $type {
                /// All values, in the order of the documentation.
                pub const ALL: &[Self] = &[$(Self::$value),*];

                /// As in a Stage.
                #[must_use]
                pub const fn text(self) -> &'static str {
                    match self { $(Self::$value => stringify!($value),)* }
                }
            }
        )*

        /// The settings. None: not set.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct RequestPolicy {
            $($(#[doc = $doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }

        impl RequestPolicy {
            /// The names of all settings.
            pub const NAMES: &[&str] = &[$($text),*];

            /// These settings, and those of `other` where these have none.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)* }
            }

            fn set(&mut self, name: &str, value: &str) -> Result<(), ParseSettingError> {
                match name {
                    $($text => {
                        let known = || $type::ALL.iter().map(|known| known.text()).collect::<Vec<_>>().join(", ");
                        let found = $type::ALL.iter().find(|known| known.text() == value);
                        let bad = || ParseSettingError::Value { name: $text, value: value.to_owned(), known: known() };
                        self.$field = Some(*found.ok_or_else(bad)?);
                    })*
                    _ => return Err(ParseSettingError::Name { name: name.to_owned(), known: Self::NAMES.join(", ") }),
                }
                Ok(())
            }
        }

        impl fmt::Display for RequestPolicy {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let set = [$(self.$field.map(|value| format!("{}={}", $text, value.text()))),*];
                f.write_str(&set.into_iter().flatten().collect::<Vec<_>>().join(","))
            }
        }
    };
}

settings! {
    /// `%2F`, `%5C` and `\` in the path.
    "encodedSlashes" encoded_slashes: EncodedSlashes {
        /// The request is rejected.
        Reject,
        /// They become slashes.
        Decode,
        /// They are part of a segment.
        Forward,
    }
    /// `%25` and two hexadecimal digits in the path.
    "doubleEncoding" double_encoding: DoubleEncoding {
        /// The request is rejected.
        Reject,
        /// It is forwarded unchanged.
        Forward,
    }
    /// `;` and `%3B` in the path, and what follows them in their segment.
    "semicolons" semicolons: Semicolons {
        /// The request is rejected.
        Reject,
        /// They are removed.
        Drop,
        /// They are ignored for matching, and forwarded.
        Forward,
    }
    /// `//` in the path.
    "emptySegments" empty_segments: EmptySegments {
        /// The request is rejected.
        Reject,
        /// They are removed.
        Collapse,
        /// They are ignored for matching, and forwarded.
        Forward,
    }
    /// Characters in the path that must be percent-encoded (RFC 3986).
    "pathCharacters" path_characters: PathCharacters {
        /// The request is rejected.
        Reject,
        /// They are percent-encoded.
        Encode,
    }
    /// Characters in the query that must be percent-encoded (RFC 3986).
    "queryCharacters" query_characters: QueryCharacters {
        /// The request is rejected.
        Reject,
        /// They are percent-encoded.
        Encode,
        /// They are forwarded unchanged.
        Forward,
    }
    /// Header names with other characters than letters, digits and hyphens.
    "headerNames" header_names: HeaderNames {
        /// The request is rejected.
        Reject,
        /// The header is removed.
        Drop,
        /// The header is forwarded, unless it is another spelling of one that matters to the proxy.
        Forward,
    }
    /// Header values with characters outside ASCII.
    "headerValues" header_values: HeaderValues {
        /// The request is rejected.
        Reject,
        /// The header is removed.
        Drop,
        /// The header is forwarded unchanged.
        Forward,
    }
}

impl RequestPolicy {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for RequestPolicy {
    type Err = ParseSettingError;

    /// Settings as `NAME=VALUE`, separated by commas; the last one of a name wins.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut policy = Self::default();
        for setting in text.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            let shape = || ParseSettingError::Shape(setting.to_owned());
            let (name, value) = setting.split_once('=').ok_or_else(shape)?;
            policy.set(name.trim(), value.trim())?;
        }
        Ok(policy)
    }
}

impl FromIterator<Self> for RequestPolicy {
    /// Later settings replace earlier ones.
    fn from_iter<I: IntoIterator<Item = Self>>(policies: I) -> Self {
        policies.into_iter().fold(Self::default(), |all, next| next.or(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_names_and_values() {
        let text = "encodedSlashes=Decode,emptySegments=Collapse,headerNames=Drop";
        let policy: RequestPolicy =
            " headerNames = Drop,encodedSlashes=Decode,,emptySegments=Collapse".parse().unwrap();
        assert_eq!(policy.to_string(), text);
        assert_eq!(serde_json::to_value(policy).unwrap()["encoded_slashes"], "Decode");
        assert_eq!("".parse(), Ok(RequestPolicy::default()));
        for (bad, part) in [
            ("emptySegments", "write NAME=VALUE"),
            ("EmptySegments=Reject", "use one of encodedSlashes, doubleEncoding"),
            ("emptySegments=Drop", "use one of Reject, Collapse, Forward"),
            ("doubleEncoding=Decode", "use one of Reject, Forward"),
        ] {
            let error = bad.parse::<RequestPolicy>().unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }

    #[test]
    fn settings_that_are_not_set_come_from_the_other_policy() {
        let parse = |text: &str| text.parse::<RequestPolicy>().unwrap();
        let stage = parse("semicolons=Drop");
        assert_eq!(stage.or(parse("semicolons=Forward,headerNames=Drop")), parse("semicolons=Drop,headerNames=Drop"));
        let flags = [parse("semicolons=Drop"), parse("semicolons=Forward")];
        assert_eq!(flags.into_iter().collect::<RequestPolicy>(), parse("semicolons=Forward"));
    }
}
