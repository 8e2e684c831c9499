//! `AssumeRoleWithWebIdentity`: credentials of a role for the token of a ServiceAccount. The token is verified before a role is looked
//! up, so that a client without a valid token learns nothing about roles.

use k8s_openapi::jiff::Timestamp;
use sluice_session::{Session, SessionKey, assumed_role, day, is_session_name};

use crate::objects::ObjectKey;
use crate::random::session_credentials;
use crate::sts::callers::Callers;
use crate::sts::fault::Fault;
use crate::sts::parameters::Parameters;
use crate::sts::verifier::{TokenError, Verifier};
use crate::sts::xml::Element;

/// AWS's limits.
const ARN: std::ops::RangeInclusive<usize> = 20..=2_048;
const MAX_WEB_IDENTITY_TOKEN: usize = 20_000;
const MIN_DURATION_S: u64 = 900;
/// Without a wish.
const DEFAULT_DURATION_S: u64 = 3_600;

/// What a request asks for.
struct Asked<'a> {
    role_arn: &'a str,
    session: &'a str,
    token: &'a str,
    duration_s: Option<u64>,
}

impl<'a> Asked<'a> {
    fn read(parameters: &'a Parameters<'_>) -> Result<Self, Fault> {
        for unsupported in ["Policy", "PolicyArns", "ProviderId"] {
            if parameters.has(unsupported) {
                return Err(Fault::invalid(format!("{unsupported} is not supported; remove it")));
            }
        }
        let role_arn = parameters.required("RoleArn")?;
        if !ARN.contains(&role_arn.len()) {
            return Err(Fault::invalid("RoleArn must have 20 to 2048 characters"));
        }
        let session = parameters.required("RoleSessionName")?;
        if !is_session_name(session) {
            let why = "RoleSessionName must have 2 to 64 letters, digits and characters of _+=,.@-";
            return Err(Fault::invalid(why));
        }
        let token = parameters.required("WebIdentityToken")?;
        if token.len() > MAX_WEB_IDENTITY_TOKEN {
            return Err(Fault::invalid("WebIdentityToken must have at most 20000 characters"));
        }
        let duration_s = parameters.get("DurationSeconds").map(|text| {
            let seconds = text.parse::<u64>().ok().filter(|seconds| *seconds >= MIN_DURATION_S);
            seconds.ok_or_else(|| Fault::invalid("DurationSeconds must be a whole number from 900 on"))
        });
        Ok(Self { role_arn, session, token, duration_s: duration_s.transpose()? })
    }
}

/// The fields of the result.
pub(super) async fn assume(
    callers: &Callers,
    verifier: &Verifier,
    parameters: &Parameters<'_>,
    source: u128,
    now: Timestamp,
) -> Result<Vec<Element>, Fault> {
    let asked = Asked::read(parameters)?;
    let account = verifier.verify(asked.token, source).await.map_err(rejected)?;
    let not_ready = |_| Fault::unavailable("The configuration is not loaded yet. Try again");
    let mut found = callers.assumable(asked.role_arn, &account).map_err(not_ready)?;
    let Some((key, caller)) = found.pop() else {
        return Err(denied(&asked, &account, "no role with this ARN trusts it"));
    };
    if !found.is_empty() {
        let why = "several roles of other namespaces have this ARN and trust it; give them different ARNs (spec.arn)";
        return Err(denied(&asked, &account, why));
    }
    let (Some(role), Some(arn)) = (&caller.role, assumed_role(&caller.arn, asked.session)) else {
        return Err(denied(&asked, &account, "no role with this ARN trusts it"));
    };
    let duration_s = asked.duration_s.unwrap_or_else(|| DEFAULT_DURATION_S.min(role.max_duration_s));
    if duration_s > role.max_duration_s {
        let most = role.max_duration_s;
        let why = format!("The requested DurationSeconds exceeds the MaxSessionDuration set for this role ({most})");
        return Err(Fault::invalid(why));
    }
    let no_random = |_| Fault::internal("There are no random bytes for credentials");
    let (access_key_id, secret_access_key) = session_credentials().map_err(no_random)?;
    let issued = u64::try_from(now.as_second()).unwrap_or_default();
    let expires = issued.saturating_add(duration_s);
    let date = day(issued);
    let session = Session { access_key_id, secret_access_key, name: asked.session.to_owned(), issued, expires };
    let seal_with = SessionKey::derive(role.seed.0.as_bytes(), &date);
    let token = session.seal(&key.to_string(), &date, &seal_with);
    let token = token.map_err(|error| Fault::internal(format!("Cannot issue credentials: {error}")))?;
    tracing::info!(
        role = %key, service_account = %account, session.name = asked.session, access_key.id = session.access_key_id,
        duration.s = duration_s, "issued temporary credentials"
    );
    let expiration = i64::try_from(expires).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let user = vec![Element::text("Arn", arn), Element::text("AssumedRoleId", format!("{key}:{}", asked.session))];
    let credentials = vec![
        Element::text("AccessKeyId", session.access_key_id),
        Element::text("SecretAccessKey", session.secret_access_key),
        Element::text("SessionToken", token),
        Element::text("Expiration", expiration.unwrap_or(now).to_string()),
    ];
    Ok(vec![
        Element::text("SubjectFromWebIdentityToken", user_of(&account)),
        Element::Parent("AssumedRoleUser", user),
        Element::Parent("Credentials", credentials),
    ])
}

fn user_of(account: &ObjectKey) -> String {
    format!("system:serviceaccount:{}:{}", account.namespace, account.name)
}

fn denied(asked: &Asked<'_>, account: &ObjectKey, why: &str) -> Fault {
    tracing::info!(service_account = %account, session.name = asked.session, why, "denied temporary credentials");
    let user = user_of(account);
    Fault::forbidden(
        "AccessDenied",
        format!("{user} is not authorized to perform: sts:AssumeRoleWithWebIdentity: {why}"),
    )
}

fn rejected(error: TokenError) -> Fault {
    match error {
        TokenError::Invalid => Fault::bad_request(
            "InvalidIdentityToken",
            "The token that was provided is not a valid token of a ServiceAccount of this cluster",
        ),
        TokenError::Audience => Fault::bad_request("InvalidIdentityToken", "Incorrect token audience"),
        TokenError::Expired => Fault::bad_request("ExpiredTokenException", "Token expired"),
        // Clients try this again.
        TokenError::Unavailable => {
            Fault::bad_request("IDPCommunicationError", "The token cannot be verified at the moment. Try again")
        }
    }
}
