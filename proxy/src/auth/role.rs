//! Roles: opens their session tokens. A token is opened once and remembered, so that a request with it costs what one with an access
//! key does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foldhash::fast::RandomState;
use sluice_session::{Sealed, SessionKey, assumed_role, day};
use sluice_sigv4::{SigningKey, signing_key};
use sluice_wire::{PartName, PrincipalPart};

use super::identity::Identity;
use crate::permission::{AwsName, CallerPolicies};

/// Sessions of one role that are remembered, and of all roles: about 1 KB each. Others are opened for each request.
const MAX_SESSIONS: usize = 1_024;
const MAX_OF_ALL: usize = 16_384;
/// How long no further session is remembered if those of all roles are too many, in seconds.
const PAUSE_S: u64 = 10;
const DAY_S: u64 = 86_400;

/// A role.
pub(crate) struct Role {
    /// `namespace/name`.
    id: Box<str>,
    account: Box<str>,
    arn: Box<str>,
    policies: Arc<CallerPolicies>,
    authorizers: Arc<[PartName]>,
    /// By the day on which the tokens were issued, sorted.
    keys: Vec<(Box<str>, SessionKey)>,
    sessions: RwLock<HashMap<Box<str>, Arc<Session>, RandomState>>,
    /// Until then no further session is remembered, in seconds since 1970: so that requests do not wait for each other.
    full_until: AtomicU64,
    /// The number of sessions of all roles that are remembered.
    of_all: Arc<AtomicUsize>,
}

/// A session whose token was opened.
pub(crate) struct Session {
    pub(super) identity: Arc<Identity>,
    access_key_id: Box<str>,
    secret: Box<str>,
    expires: SystemTime,
    /// The signing key that was used last, with its scope: a client signs for the same scope for a day.
    signing_key: ArcSwapOption<(String, SigningKey)>,
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// The token was not issued here, or is that of other credentials.
    Invalid,
    Expired,
    /// The operator has not sent the key of the token's day.
    NoKey,
}

impl Role {
    pub(super) fn compile(
        part: &PrincipalPart,
        policies: Arc<CallerPolicies>,
        authorizers: Arc<[PartName]>,
        of_all: Arc<AtomicUsize>,
    ) -> Result<Self, String> {
        if assumed_role(&part.arn, "").is_none() {
            return Err("The Principal has session keys and is no role.".to_owned());
        }
        let mut keys: Vec<(Box<str>, SessionKey)> = Vec::with_capacity(part.session_keys.len());
        for day in &part.session_keys {
            let bytes = STANDARD.decode(&day.key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            let bytes = bytes.ok_or("A session key of the Principal is not valid.")?;
            keys.push((day.date.as_str().into(), SessionKey::from_bytes(bytes)));
        }
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (id, account, arn) = (part.object.id().into(), part.account.as_str().into(), part.arn.as_str().into());
        let (sessions, full_until) = (RwLock::default(), AtomicU64::default());
        Ok(Self { id, account, arn, policies, authorizers, keys, sessions, full_until, of_all })
    }

    /// Whether an Authorizer accepts its sessions.
    pub(super) fn is_of(&self, authorizer: &PartName) -> bool {
        self.authorizers.contains(authorizer)
    }

    /// The session of a token with this access key id, if it is valid at `now`.
    pub(super) fn session(
        &self,
        token: &str,
        sealed: &Sealed,
        access_key_id: &str,
        now: SystemTime,
    ) -> Result<Arc<Session>, SessionError> {
        let known = self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        let session = match known {
            Some(session) => session,
            None => self.remember(token, self.open(sealed, now)?, now),
        };
        if *session.access_key_id != *access_key_id {
            return Err(SessionError::Invalid);
        }
        if session.expires <= now { Err(SessionError::Expired) } else { Ok(session) }
    }

    fn open(&self, sealed: &Sealed, now: SystemTime) -> Result<Session, SessionError> {
        let date = sealed.date();
        let Some((_, key)) = self.keys.iter().find(|(known, _)| **known == *date) else {
            // The keys of days that are over are removed: their sessions have ended. No token is of a day after tomorrow.
            let is_later = self.keys.last().is_none_or(|(last, _)| **last < *date);
            return Err(match is_later {
                false => SessionError::Expired,
                true if *date <= *day(seconds(now) + DAY_S) => SessionError::NoKey,
                true => SessionError::Invalid,
            });
        };
        let opened = sealed.open(key).map_err(|_| SessionError::Invalid)?;
        let arn = assumed_role(&self.arn, &opened.name).ok_or(SessionError::Invalid)?;
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(opened.expires)).ok_or(SessionError::Invalid)?;
        let user = format!("{}:{}", self.id, opened.name);
        let of_session =
            vec![("aws:userid", user.as_str().into()), ("aws:tokenissuetime", opened.issued.to_string().into())];
        let name =
            AwsName { account: self.account.clone(), arn: arn.as_str().into(), role_arn: Some(self.arn.clone()) };
        let CallerPolicies { policies, keys, .. } = &*self.policies;
        let policies = CallerPolicies { name: Some(name), policies: policies.clone(), keys: keys.clone(), of_session };
        let id = &opened.access_key_id;
        let identity = Identity::signed_by(id, &self.account, &arn, &user, Arc::new(policies), expires);
        Ok(Session {
            identity: Arc::new(identity),
            access_key_id: opened.access_key_id.into(),
            secret: opened.secret_access_key.into(),
            expires,
            signing_key: ArcSwapOption::empty(),
        })
    }

    fn remember(&self, token: &str, session: Session, now: SystemTime) -> Arc<Session> {
        let session = Arc::new(session);
        if seconds(now) < self.full_until.load(Ordering::Relaxed) {
            return session;
        }
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS {
            let before = sessions.len();
            sessions.retain(|_, known| known.expires > now);
            self.of_all.fetch_sub(before - sessions.len(), Ordering::Relaxed);
        }
        let is_free = |count: usize| (count < MAX_OF_ALL).then_some(count + 1);
        let full_until = if sessions.len() >= MAX_SESSIONS {
            sessions.values().map(|known| seconds(known.expires)).min()
        } else if sessions.contains_key(token) {
            None
        } else if self.of_all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_free).is_ok() {
            sessions.insert(token.into(), session.clone());
            None
        } else {
            Some(seconds(now) + PAUSE_S)
        };
        if let Some(until) = full_until {
            self.full_until.store(until, Ordering::Relaxed);
        }
        session
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let sessions = self.sessions.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.of_all.fetch_sub(sessions.len(), Ordering::Relaxed);
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Session {
    /// The key that verifies what the session has signed in a scope.
    pub(super) fn signing_key(&self, presented: &sluice_sigv4::Presented) -> SigningKey {
        let (date, region, service) = (presented.date(), presented.region(), presented.service());
        let scope = [date, region, service].join("/");
        if let Some(known) = &*self.signing_key.load()
            && known.0 == scope
        {
            return known.1.clone();
        }
        let key = signing_key(&self.secret, date, region, service);
        self.signing_key.store(Some(Arc::new((scope, key.clone()))));
        key
    }
}

#[cfg(test)]
mod tests;
