//! Reads texts from Secrets: access keys, client secrets. Messages never show a value.

use std::ops::RangeInclusive;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use sluice_crds::condition::reason;
use sluice_crds::principal::{ID_DATA_KEY, SECRET_DATA_KEY};

use crate::objects::ObjectKey;
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::view::View;

/// What a value must look like.
pub(crate) struct Form {
    pub(crate) length: RangeInclusive<usize>,
    /// Its characters, for messages.
    pub(crate) characters: &'static str,
    pub(crate) is_valid: fn(u8) -> bool,
}

/// The values of a Secret.
pub(crate) struct SecretValues<'a> {
    holder: ObjectKey,
    secret: &'a Arc<Secret>,
}

impl<'a> SecretValues<'a> {
    /// The Secret, if the object that refers to it may.
    pub(crate) fn of(view: &View<'a>, from: Referrer<'_>, holder: ObjectKey) -> Result<Self, Unresolved> {
        let secret = resolve::<Secret>(view, from, &holder)?;
        Ok(Self { holder, secret })
    }

    /// The value of a data key; none: there is no such key. A line end after the value is not part of it.
    pub(crate) fn get(&self, name: &str, form: &Form) -> Result<Option<&'a str>, Unresolved> {
        let Some(bytes) = self.secret.data.as_ref().and_then(|data| data.get(name)) else { return Ok(None) };
        let text = std::str::from_utf8(&bytes.0).ok().map(|text| text.trim_end_matches(['\r', '\n']));
        let good = |text: &&str| form.length.contains(&text.len()) && text.bytes().all(form.is_valid);
        let text = text.filter(good).ok_or_else(|| {
            let (holder, least, most) = (&self.holder, form.length.start(), form.length.end());
            let characters = form.characters;
            invalid(format!(
                "the key {name:?} of Secret {holder} is not valid: it must have {least} to {most} {characters}"
            ))
        })?;
        Ok(Some(text))
    }

    /// The value of a data key that the Secret must have.
    pub(crate) fn required(&self, name: &str, form: &Form) -> Result<&'a str, Unresolved> {
        let holder = &self.holder;
        let missing = || invalid(format!("Secret {holder} has no data key {name:?}; add it or correct the name"));
        self.get(name, form)?.ok_or_else(missing)
    }

    /// The id and the secret of an access key, in the data keys that programs of AWS have as variables.
    pub(crate) fn access_key(&self, id: &Form, secret: &Form) -> Result<(&'a str, &'a str), Unresolved> {
        Ok((self.required(ID_DATA_KEY, id)?, self.required(SECRET_DATA_KEY, secret)?))
    }
}

// Never "not found": a Secret that exists is not written to.
fn invalid(why: String) -> Unresolved {
    Unresolved { reason: reason::SECRET_INVALID, why }
}
