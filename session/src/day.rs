//! Days in UTC.

const SECONDS: u64 = 86_400;

/// `YYYYMMDD` of a time in seconds since 1970, in UTC, until the year 9999.
#[must_use]
pub fn day(epoch_s: u64) -> String {
    // Years that begin in March have their leap day at the end (H. Hinnant, "chrono-compatible low-level date algorithms").
    let days = epoch_s / SECONDS + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{:04}{month:02}{day:02}", year.min(9_999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (epoch_s, expected) in [
            (0, "19700101"),
            (86_399, "19700101"),
            (951_782_400, "20000229"),
            (951_868_800, "20000301"),
            (1_795_825_800, "20261128"),
            (1_830_297_599, "20271231"),
            (1_830_297_600, "20280101"),
            (4_107_542_399, "21000228"),
            (4_107_542_400, "21000301"),
        ] {
            assert_eq!(day(epoch_s), expected, "{epoch_s}");
        }
        assert_eq!(day(u64::MAX / 4).len(), 8);
    }
}
