//! The days for which signing keys are derived: an input of translation, which has no clock.

use k8s_openapi::jiff::civil::Date;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{Timestamp, ToSpan as _};

/// Presigned requests are valid for at most 7 days after they were signed.
const BEFORE: i64 = 7;

/// The days of credential scopes that proxies accept, in UTC. Without days, no signature is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigningDays {
    /// The current day.
    today: Option<Date>,
    /// The number of days after it.
    ahead: u8,
}

impl SigningDays {
    /// From the first day of presigned requests that are valid at `now`, to `ahead` days after it.
    #[must_use]
    pub fn around(now: Timestamp, ahead: u8) -> Self {
        Self { today: Some(TimeZone::UTC.to_datetime(now).date()), ahead }
    }

    /// The days as `YYYYMMDD`, in order.
    pub(crate) fn dates(self) -> impl Iterator<Item = String> {
        self.between(-BEFORE, i64::from(self.ahead))
    }

    /// The days on which session tokens were issued that are valid now or will be soon: a session ends within a day, and the next
    /// day's tokens are accepted from its first second on.
    pub(crate) fn session_dates(self) -> impl Iterator<Item = String> {
        self.between(-1, 1)
    }

    fn between(self, first: i64, last: i64) -> impl Iterator<Item = String> {
        let days = self
            .today
            .into_iter()
            .flat_map(move |today| (first..=last).filter_map(move |day| today.checked_add(day.days()).ok()));
        days.map(|date| format!("{:04}{:02}{:02}", date.year(), date.month(), date.day()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_before_the_current_one_and_change_at_midnight_in_utc() {
        let dates =
            |now: &str, ahead| -> Vec<String> { SigningDays::around(now.parse().unwrap(), ahead).dates().collect() };
        for (now, ahead, first, last) in [
            ("2026-12-30T23:59:59Z", 2, "20261223", "20270101"),
            ("2026-12-31T00:00:00Z", 1, "20261224", "20270101"),
            ("2028-02-28T12:00:00+14:00", 1, "20280220", "20280228"),
        ] {
            let dates = dates(now, ahead);
            assert_eq!(dates.len(), 8 + usize::from(ahead), "{now}");
            assert_eq!((dates.first().unwrap(), dates.last().unwrap()), (&first.to_owned(), &last.to_owned()), "{now}");
        }
        assert_eq!(SigningDays::default().dates().count(), 0);
        let sessions = SigningDays::around("2026-12-31T23:59:59Z".parse().unwrap(), 30).session_dates();
        assert_eq!(sessions.collect::<Vec<_>>(), ["20261230", "20261231", "20270101"]);
    }
}
