//! Random keys: of ApiKeys, of Principals, of sessions.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The letters of base32: those of AWS's access key ids.
const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Of the id of a Principal's access key. Not `AKIA`: scanners for leaked credentials would report a key of AWS.
const ID_PREFIX: &str = "SLCE";
/// Of the id of temporary credentials; those of AWS begin with `ASIA`.
const SESSION_ID_PREFIX: &str = "SLTE";
const API_KEY: usize = 32;
const ID: usize = 16;
const SECRET: usize = 40;
const SESSION_KEY: usize = 64;

/// The system has no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot generate random bytes for a key")]
pub struct NoRandomness;

/// A new API key: `sk_` and 32 random letters and digits (190 bits).
///
/// # Errors
/// See [`NoRandomness`].
pub fn api_key() -> Result<String, NoRandomness> {
    Ok(format!("sk_{}", text(ALPHABET, API_KEY)?))
}

/// A new access key: an id (80 bits), and a secret of 40 random letters and digits (238 bits).
///
/// # Errors
/// See [`NoRandomness`].
pub fn access_key() -> Result<(String, String), NoRandomness> {
    with_id(ID_PREFIX)
}

/// The id and the secret of temporary credentials, as long as those of an access key.
pub(crate) fn session_credentials() -> Result<(String, String), NoRandomness> {
    with_id(SESSION_ID_PREFIX)
}

/// What the session tokens of a role depend on: 64 random letters and digits (381 bits).
///
/// # Errors
/// See [`NoRandomness`].
pub fn session_key() -> Result<String, NoRandomness> {
    text(ALPHABET, SESSION_KEY)
}

/// The id of a request, in the form of a UUID. It is not secret; without random bytes it is zero.
pub(crate) fn request_id() -> String {
    let mut bytes = [0; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::debug!("no random bytes for the id of a request");
    }
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let ends = [8, 12, 16, 20, 32];
    let groups = ends.iter().scan(0, |from, to| digits.get(std::mem::replace(from, *to)..*to));
    groups.collect::<Vec<_>>().join("-")
}

fn with_id(prefix: &str) -> Result<(String, String), NoRandomness> {
    Ok((format!("{prefix}{}", text(ID_ALPHABET, ID)?), text(ALPHABET, SECRET)?))
}

fn text(alphabet: &[u8], length: usize) -> Result<String, NoRandomness> {
    let mut text = String::with_capacity(length);
    // Bytes above a multiple of the alphabet's length would make some characters likelier than others.
    let limit = 256 - 256 % alphabet.len();
    while text.len() < length {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        let fair = bytes.into_iter().map(usize::from).filter(|byte| *byte < limit).take(length - text.len());
        text.extend(fair.filter_map(|byte| alphabet.get(byte % alphabet.len())).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_long_plain_and_never_the_same() {
        let keys: BTreeSet<String> = (0..1000).map(|_| api_key().unwrap()).collect();
        assert_eq!(keys.len(), 1000);
        for key in keys {
            let rest = key.strip_prefix("sk_").unwrap();
            assert!(rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_alphanumeric()), "{key}");
        }
        let ids: BTreeSet<String> = (0..1000).map(|_| session_credentials().unwrap().0).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 20 && id.starts_with("SLTE")));
    }
}
