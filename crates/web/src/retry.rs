//! Which failures may pass, and how long to wait before another try.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often to try and how long to wait in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Tries, at least 1.
    pub max_tries: u32,
    /// Pause before the second try; doubled for each further one, then multiplied by a factor in
    /// `0.5..1`.
    pub backoff: Duration,
    /// Longest pause. A server that asks for more ends the tries.
    pub max_pause: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Retries {
    /// 5 tries, half a second at first, a minute at most.
    fn default() -> Self {
        Self {
            max_tries: 5,
            backoff: Duration::from_millis(500),
            max_pause: Duration::from_secs(60),
            seed: 0,
        }
    }
}

impl Retries {
    /// Pause after try number `attempt`, counted from 1:
    ///
    /// ```text
    /// min(backoff * 2^(attempt - 1), max_pause) * u,   u in 0.5..1
    /// ```
    ///
    /// or what the server asks for (`retry_after`, in seconds) if that is longer. `None` if the tries
    /// are used up or the server asks for more than `max_pause`.
    pub fn pause(&self, attempt: u32, retry_after: Option<u64>) -> Option<Duration> {
        if attempt >= self.max_tries {
            return None;
        }
        let factor = 1_u32
            .checked_shl(attempt.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let jitter = 0.5 + 0.5 * unit(self.seed.wrapping_add(u64::from(attempt)));
        let own = self
            .backoff
            .saturating_mul(factor)
            .min(self.max_pause)
            .mul_f64(jitter);
        match retry_after.map(Duration::from_secs) {
            Some(asked) => (asked <= self.max_pause).then_some(asked.max(own)),
            None => Some(own),
        }
    }
}

/// A number in `0..1` from a counter (SplitMix64, Steele et al. 2014).
fn unit(counter: u64) -> f64 {
    let mut z = counter
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Whether a request that was answered with this status may succeed later: 408, 429 and 5xx.
pub fn status_may_pass(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// Seconds that a `Retry-After` header asks to wait: a number of seconds, or a date in one of the
/// three forms of RFC 9110, section 5.6.7, of which one that has passed means 0. `None` for anything
/// else.
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<u64> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit ask for longer than anyone waits.
        return Some(header.parse().unwrap_or(u64::MAX));
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let date = http_date(header, now)?;
    Some(u64::try_from(date).unwrap_or(0).saturating_sub(now))
}

/// Seconds since 1970 of an HTTP date; two-digit years are taken from the century around `now`.
fn http_date(text: &str, now: u64) -> Option<i64> {
    let parts: Vec<&str> = text
        .split([' ', ',', '-'])
        .filter(|part| !part.is_empty())
        .collect();
    let (day, month, year, time) = match parts.as_slice() {
        // Sun, 06 Nov 1994 08:49:37 GMT and Sunday, 06-Nov-94 08:49:37 GMT
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        // Sun Nov  6 08:49:37 1994
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let month = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    .iter()
    .position(|name| name == month)? as i64;
    let day = number(day, 1..=31)?;
    let year = match year.len() {
        4 => number(year, 1970..=9999)?,
        2 => {
            // The century that puts the date at most 50 years ahead.
            let this = 1970 + (now / 31_556_952) as i64;
            let near = this - this % 100 + number(year, 0..=99)?;
            if near > this + 50 { near - 100 } else { near }
        }
        _ => return None,
    };
    let mut clock = time.split(':');
    let hour = number(clock.next()?, 0..=23)?;
    let minute = number(clock.next()?, 0..=59)?;
    let second = number(clock.next()?, 0..=60)?;
    if clock.next().is_some() {
        return None;
    }
    Some(((days_before(year, month) + day - 1) * 24 + hour) * 3600 + minute * 60 + second)
}

fn number(text: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let digits = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.then(|| text.parse().ok()).flatten()?;
    range.contains(&value).then_some(value)
}

/// Days from 1 January 1970 to the first of a month, `month` from 0, in the Gregorian calendar.
fn days_before(year: i64, month: i64) -> i64 {
    // Counted from March, so that the leap day is the last one of its year.
    let (year, month) = if month < 2 {
        (year - 1, month + 10)
    } else {
        (year, month - 2)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    // Months from March have 31, 30, 31, 30, 31 days, again and again.
    let of_months = (153 * month + 2) / 5;
    year * 365 + leap_days + of_months - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_grow_obey_the_server_and_have_a_limit() {
        let retries = Retries {
            max_tries: 100,
            ..Retries::default()
        };
        for attempt in 1..=40 {
            let full = retries.backoff.saturating_mul(1 << (attempt - 1).min(20));
            let full = full.min(retries.max_pause);
            let got = retries.pause(attempt, None).unwrap();
            assert!(got >= full / 2 && got <= full, "{attempt}: {got:?}");
        }
        assert_eq!(retries.pause(1, Some(7)), Some(Duration::from_secs(7)));
        assert_eq!(retries.pause(1, Some(60)), Some(Duration::from_secs(60)));
        assert_eq!(retries.pause(1, Some(61)), None);
        assert_eq!(retries.pause(3, Some(0)), retries.pause(3, None));
        let other = Retries {
            seed: 7,
            ..retries.clone()
        };
        assert_ne!(retries.pause(1, None), other.pause(1, None));
    }

    #[test]
    fn pauses_end_with_the_tries() {
        let retries = Retries {
            max_tries: 3,
            ..Retries::default()
        };
        assert!(retries.pause(2, None).is_some());
        assert_eq!(retries.pause(3, None), None);
        assert_eq!(retries.pause(3, Some(1)), None);
        let none = Retries {
            max_tries: 0,
            ..Retries::default()
        };
        assert_eq!(none.pause(1, None), None);
    }

    #[test]
    fn only_some_statuses_may_pass() {
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert!(status_may_pass(status));
        }
        for status in [200, 301, 400, 401, 403, 404, 409, 422, 499, 600] {
            assert!(!status_may_pass(status));
        }
    }

    /// 6 November 1994, 08:49:37, the example of RFC 9110.
    const EXAMPLE: u64 = 784_111_777;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (header, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sun Nov  6 08:49:37 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37:00 GMT", None),
            ("Sun, 32 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Now 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 994 08:49:37 GMT", None),
            ("Sun, +6 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(
                retry_after(header, at(EXAMPLE - 30)),
                expected,
                "{header:?}"
            );
        }
    }

    #[test]
    fn dates_of_known_moments() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
            ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            ("Fri, 31 Dec 1999 23:59:59 GMT", 946_684_799),
            ("Tue, 19 Jan 2038 03:14:08 GMT", 2_147_483_648),
        ] {
            assert_eq!(http_date(text, 0), Some(expected), "{text}");
        }
        let two_digits = |year, now| http_date(&format!("X, 01-Jan-{year} 00:00:00 GMT"), now);
        let in_2024 = 1_710_000_000;
        assert_eq!(two_digits("30", in_2024), Some(1_893_456_000));
        assert_eq!(two_digits("99", in_2024), Some(915_148_800));
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "\\PC{0,40}", now in any::<u32>()) {
            let _ = retry_after(&text, at(u64::from(now)));
        }

        /// Days follow one another without a gap: counted one by one with the rule of leap years.
        #[test]
        fn days_agree_with_counting(year in 1970_i64..2200, month in 0_i64..12) {
            let leap = |y: i64| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
            let mut days = 0;
            for y in 1970..=year {
                let months = if y == year { month } else { 12 };
                for m in 0..months {
                    days += match m {
                        1 => 28 + i64::from(leap(y)),
                        3 | 5 | 8 | 10 => 30,
                        _ => 31,
                    };
                }
            }
            prop_assert_eq!(days_before(year, month), days);
        }
    }
}
