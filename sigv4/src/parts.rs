//! Splits short texts at ASCII characters. The standard library searches for a `char` in a way that pays for long texts only: for a
//! credential it took a tenth of the time of a verification.

/// The parts of a text between ASCII characters.
pub(crate) fn parts(text: &str, is_separator: impl Fn(u8) -> bool) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.bytes().position(&is_separator) else { return rest.take() };
        let (part, after) = text.split_at_checked(at)?;
        rest = after.get(1..);
        Some(part)
    })
}

/// What is before and after the first of an ASCII character.
pub(crate) fn split_once(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_those_of_the_standard_library(text in "[a/é;,= ]{0,24}") {
            let by_slash: Vec<_> = parts(&text, |byte| byte == b'/').collect();
            prop_assert_eq!(by_slash, text.split('/').collect::<Vec<_>>());
            let by_several: Vec<_> = parts(&text, |byte| matches!(byte, b',' | b' ' | b';')).collect();
            prop_assert_eq!(by_several, text.split([',', ' ', ';']).collect::<Vec<_>>());
            prop_assert_eq!(split_once(&text, b'='), text.split_once('='));
        }
    }
}
