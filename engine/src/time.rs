//! Points in time are arguments, never asked for.

use serde::{Deserialize, Serialize};

/// The last moment that four digits of a year can spell: 9999-12-31T23:59:59.999Z.
const LAST_MOMENT: u64 = 253_402_300_799_999;

const DAY_MS: u64 = 86_400_000;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This moment and `milliseconds` more; stops at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Appends it as RFC 3339 in UTC with milliseconds; what is later than the year 9999 stands at its end.
    pub fn write_rfc3339(self, text: &mut String) {
        let ms = self.0.min(LAST_MOMENT);
        let (days, in_day) = (ms / DAY_MS, ms % DAY_MS);
        // Years counted from March, so that the leap day is the last of its year and months have a linear rule;
        // 719,468 days lie between 0000-03-01 and 1970-01-01, 146,097 in a Gregorian cycle of 400 years.
        let shifted = days + 719_468;
        let (era, in_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
        let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * in_year + 2) / 153;
        let day = in_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, milli) = (in_day / 1_000 % 60, in_day % 1_000);
        let parts = [
            (year / 100, ' '),
            (year % 100, '-'),
            (month, '-'),
            (day, 'T'),
            (hour, ':'),
            (minute, ':'),
            (second, '.'),
            (milli / 10, ' '),
        ];
        for (part, after) in parts {
            digit(text, part / 10);
            digit(text, part % 10);
            if after != ' ' {
                text.push(after);
            }
        }
        digit(text, milli % 10);
        text.push('Z');
    }

    /// The moment that [`UnixMillis::write_rfc3339`] has written; `None` for any other text, and for one before 1970.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |from: usize, digits: usize| {
            let digits = bytes.get(from..from + digits)?;
            digits.iter().try_fold(0_u64, |number, byte| {
                byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
            })
        };
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        let in_day =
            number(11, 2)? * 3_600_000 + number(14, 2)? * 60_000 + number(17, 2)? * 1_000 + number(20, 3)?;
        if !(1970..).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let year = if month > 2 { year } else { year - 1 };
        let in_year = (153 * from_march + 2) / 5 + day - 1;
        let days = year * 365 + year / 4 - year / 100 + year / 400 + in_year;
        let moment = Self(days.checked_sub(719_468)? * DAY_MS + in_day);
        // Written again it is the same text, or it was none of ours: the 31st of February, a space, more behind it.
        let mut again = String::with_capacity(24);
        moment.write_rfc3339(&mut again);
        (again == text).then_some(moment)
    }
}

fn digit(text: &mut String, digit: u64) {
    text.push(char::from(b'0' + u8::try_from(digit % 10).unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spelt(ms: u64) -> String {
        let mut text = String::new();
        UnixMillis(ms).write_rfc3339(&mut text);
        text
    }

    #[test]
    fn moments_are_spelt_as_cedar_reads_them() {
        let check = |ms: u64, expected: &str| assert_eq!(spelt(ms), expected);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_767_787_200_000, "2026-01-07T12:00:00.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(LAST_MOMENT, "9999-12-31T23:59:59.999Z");
        check(u64::MAX, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_moment_of_ours_is_not_read() {
        for text in [
            "",
            "2026",
            "2026-01-07",
            "2026-01-07T12:00:00Z",
            "2026-01-07T12:00:00.000",
            "2026-01-07T12:00:00.000+00:00",
            "2026-01-07 12:00:00.000Z",
            "2026-01-07T12:00:00.000Z ",
            "2026-02-29T12:00:00.000Z",
            "2026-13-07T12:00:00.000Z",
            "2026-00-07T12:00:00.000Z",
            "2026-01-32T12:00:00.000Z",
            "2026-01-07T24:00:00.000Z",
            "2026-01-07T12:60:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "+026-01-07T12:00:00.000Z",
            "２026-01-07T12:00:00.000Z",
        ] {
            assert_eq!(UnixMillis::from_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_is_read_as_it_was_written(ms in 0..=LAST_MOMENT) {
            prop_assert_eq!(UnixMillis::from_rfc3339(&spelt(ms)), Some(UnixMillis(ms)));
        }
    }
}
