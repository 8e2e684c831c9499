//! The certificate that a client presented on a connection, and which Stages accept it. A Stage decides for each request by its
//! current authorities and lists, so that a connection is neither trusted for longer than its certificate, nor for another Stage.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::pki_types::{CertificateDer, UnixTime};
use sluice_wire::Hash;
use smallvec::SmallVec;

use super::details::Details;
use super::trust::Trust;

/// How long a result holds: then validity, intermediate certificates and revocation lists are checked again.
const AGAIN: Duration = Duration::from_secs(300);
/// Results that are remembered for a connection.
const REMEMBERED: usize = 8;

/// What a connection has of its client.
#[derive(Default)]
pub(crate) struct Presented {
    /// What the client was asked for: a certificate that one of these trusts.
    asked: Box<[Hash]>,
    certificate: Option<Box<Certificate>>,
}

impl Presented {
    pub(crate) fn new(asked: Box<[Hash]>, certificate: Option<Box<Certificate>>) -> Self {
        Self { asked, certificate }
    }

    /// Whether the client was asked for a certificate of these authorities.
    pub(crate) fn was_asked_for(&self, trust: &Trust) -> bool {
        self.asked.contains(&trust.id())
    }

    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }
}

/// A certificate whose key the client has proved to have.
pub(crate) struct Certificate {
    /// Leaf first.
    chain: Box<[CertificateDer<'static>]>,
    details: Details,
    header: HeaderValue,
    results: Mutex<SmallVec<[Checked; 1]>>,
}

/// A result for the authorities of a Stage.
#[derive(Clone, Copy)]
struct Checked {
    trust: Hash,
    standing: Standing,
    until: Instant,
}

/// Whether a Stage accepts a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Accepted,
    /// It did on this connection: the certificate has expired or was revoked since.
    Lapsed,
    Rejected,
}

impl Certificate {
    /// The chain of a handshake, leaf first; none: it cannot be read.
    pub(crate) fn read(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let leaf = chain.first()?;
        let details = Details::read(leaf)?;
        // A byte sequence of structured fields (RFC 9440, 2.1).
        let header = HeaderValue::try_from(format!(":{}:", STANDARD.encode(leaf))).ok()?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Self { chain, details, header, results: Mutex::default() })
    }

    pub(crate) fn details(&self) -> &Details {
        &self.details
    }

    /// The value of `Client-Cert`.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Whether a Stage with these authorities accepts it, at a time that is about now.
    pub(crate) fn standing(&self, trust: &Trust, now: Instant) -> Standing {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let known = results.iter().position(|known| known.trust == trust.id());
        let before = known.and_then(|at| results.get(at).copied());
        if let Some(known) = before.filter(|known| now < known.until) {
            return known.standing;
        }
        let made = self.check(trust, before.map(|before| before.standing), SystemTime::now());
        match known.and_then(|at| results.get_mut(at)) {
            Some(known) => *known = made,
            None => {
                if results.len() == REMEMBERED {
                    results.remove(0);
                }
                results.push(made);
            }
        }
        made.standing
    }

    fn check(&self, trust: &Trust, before: Option<Standing>, now: SystemTime) -> Checked {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let standing = match trust.verify(&self.chain, UnixTime::since_unix_epoch(since)) {
            Ok(()) => Standing::Accepted,
            Err(error) => {
                tracing::debug!(%error, fingerprint = self.details.fingerprint(), "client certificate rejected");
                match before {
                    Some(Standing::Accepted | Standing::Lapsed) => Standing::Lapsed,
                    Some(Standing::Rejected) | None => Standing::Rejected,
                }
            }
        };
        let left = self.details.expires().duration_since(now).unwrap_or_default();
        // Of one that has expired, the result is final.
        let until = if left.is_zero() { AGAIN } else { left.min(AGAIN) };
        Checked { trust: trust.id(), standing, until: Instant::now() + until }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use rcgen::date_time_ymd;
    use sluice_kit::authority::Authority;
    use sluice_wire::ClientAuth;

    use super::*;

    fn trust(authority: &Authority) -> Trust {
        let roots = vec![STANDARD.encode(&authority.der)];
        Trust::compile(&ClientAuth { required: true, roots, revocation: Vec::new(), forward: true }).unwrap()
    }

    /// Valid from 2026 to 2036.
    fn certificate(authority: &Authority) -> Certificate {
        let issued = authority.issue_with("a", |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2036, 1, 1));
        });
        Certificate::read(&issued.chain).unwrap()
    }

    const BEFORE_2026: u64 = 1_700_000_000;
    const IN_2026: u64 = 1_780_272_000;
    const END: u64 = 2_082_758_400;

    #[test]
    fn a_certificate_lapses_on_an_open_connection() {
        let (ours, others) = (Authority::new("Ours"), Authority::new("Others"));
        let certificate = certificate(&ours);
        let (accepted, lapsed, rejected) = (Some(Standing::Accepted), Some(Standing::Lapsed), Some(Standing::Rejected));
        for (authority, before, seconds, expected) in [
            (&ours, None, IN_2026, Standing::Accepted),
            (&ours, accepted, IN_2026, Standing::Accepted),
            (&ours, accepted, END + 60, Standing::Lapsed),
            (&ours, lapsed, END + 60, Standing::Lapsed),
            (&ours, None, END + 60, Standing::Rejected),
            (&ours, None, BEFORE_2026, Standing::Rejected),
            (&ours, rejected, IN_2026, Standing::Accepted),
            (&others, None, IN_2026, Standing::Rejected),
            (&others, rejected, IN_2026, Standing::Rejected),
        ] {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            let checked = certificate.check(&trust(authority), before, now);
            assert_eq!(checked.standing, expected, "{before:?} {seconds}");
        }
    }

    #[test]
    fn a_result_holds_for_5_minutes_and_not_longer_than_the_certificate() {
        let ours = Authority::new("Ours");
        let (certificate, trust) = (certificate(&ours), trust(&ours));
        for (left, expected) in [(3_600, AGAIN.as_secs()), (20, 20), (0, AGAIN.as_secs())] {
            let before = Instant::now();
            let checked = certificate.check(&trust, None, UNIX_EPOCH + Duration::from_secs(END - left));
            let holds = checked.until.duration_since(before).as_secs();
            assert!(holds >= expected && holds < expected + 10, "{left}: {holds}");
        }
    }

    #[test]
    fn results_are_remembered_for_some_authorities() {
        let ours = Authority::new("Ours");
        let certificate = certificate(&ours);
        let accepting = trust(&ours);
        let now = Instant::now();
        for number in 0..2 * REMEMBERED {
            let other = trust(&Authority::new(&format!("Other {number}")));
            assert_eq!(certificate.standing(&other, now), Standing::Rejected);
            assert_eq!(certificate.standing(&accepting, now), Standing::Accepted);
        }
        assert_eq!(certificate.results.lock().unwrap().len(), REMEMBERED);
    }
}
