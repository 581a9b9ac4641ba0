//! When a token begins and ends (RFC 7519, sections 2 and 4.1).

use engine::time::UnixMillis;
use serde_json::{Map, Value};

/// How far the provider's clock and ours may be apart, in milliseconds: a minute, as RFC 7519 suggests "no more than a
/// few minutes".
pub const LEEWAY_MS: u64 = 60_000;

/// The times of a token that has begun and is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was issued, by the provider's clock.
    pub issued: UnixMillis,
    /// From when on it is not believed: its end, and the leeway past it.
    pub ends: UnixMillis,
}

/// Why a token does not hold now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFault {
    /// A time is missing or no number.
    Form,
    /// It is over.
    Expired,
    /// It begins in the future.
    NotYet,
}

impl Times {
    /// `exp` and `iat` must be there, `nbf` may; each is a number, because a text would be passed over by others.
    ///
    /// # Errors
    /// See [`TimeFault`].
    pub fn of(claims: &Map<String, Value>, now: UnixMillis) -> Result<Self, TimeFault> {
        let time =
            |name: &str| claims.get(name).map(|value| milliseconds(value).ok_or(TimeFault::Form)).transpose();
        let ends = time("exp")?.ok_or(TimeFault::Form)?;
        let issued = time("iat")?.ok_or(TimeFault::Form)?;
        let begins = time("nbf")?.unwrap_or(issued);
        let ends = ends.saturating_add(LEEWAY_MS);
        if now.0 >= ends {
            return Err(TimeFault::Expired);
        }
        if issued.max(begins) > now.0.saturating_add(LEEWAY_MS) {
            return Err(TimeFault::NotYet);
        }
        Ok(Self { issued: UnixMillis(issued), ends: UnixMillis(ends) })
    }
}

/// When somebody was asked to prove who they are, by `auth_time`; 0, which is long ago, where that is not said, or said of a
/// moment that is yet to come: a provider that counts in milliseconds would make everybody's proof fresh for ever.
pub(super) fn proved_at(claims: &Map<String, Value>, now: UnixMillis) -> UnixMillis {
    let said = claims.get("auth_time").and_then(milliseconds);
    let believed = said.filter(|at| *at <= now.0.saturating_add(LEEWAY_MS));
    UnixMillis(believed.unwrap_or(0).min(now.0))
}

/// A `NumericDate` (RFC 7519, section 2) in milliseconds; seconds may have a fraction.
pub(super) fn milliseconds(value: &Value) -> Option<u64> {
    if let Some(seconds) = value.as_u64() {
        return seconds.checked_mul(1000);
    }
    // 2^53 milliseconds: past it a fraction of a number says nothing.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let milliseconds = value.as_f64().filter(|_| value.is_f64())? * 1000.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and 2^53")]
    (0.0..EXACT).contains(&milliseconds).then_some(milliseconds as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proof_is_as_old_as_it_is_said_to_be_and_old_where_nobody_says() {
        let now = UnixMillis(1_800_000_000_000);
        let check = |said: Value, expected: u64| {
            let claims = Map::from_iter([("auth_time".to_owned(), said)]);
            assert_eq!(proved_at(&claims, now), UnixMillis(expected), "{claims:?}");
        };
        check(json!(1_799_999_700), 1_799_999_700_000);
        check(json!(1_800_000_000), now.0);
        // Clocks differ by a minute at most.
        check(json!(1_800_000_060), now.0);
        check(json!(1_800_000_061), 0);
        check(json!(1_799_999_700_000_u64), 0);
        check(json!("1799999700"), 0);
        check(json!(-1), 0);
        check(Value::Null, 0);
        assert_eq!(proved_at(&Map::new(), now), UnixMillis(0));
    }
}
